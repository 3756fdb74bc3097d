"""Pictures decoded once into one file of pixels, which is read as it is needed."""

import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.data.stored import RowFile
from pipeline.errors import DataError
from pipeline.files import cache_folder, locked, write_atomically

# N pictures, C channels, H height, W width

VERSION = 2  # of what decoding does: another one, and all caches are made anew
PICTURES_AT_A_TIME = 64
HASH_BYTES = 16
GREY = ("1", "L", "LA")
TURNED = (5, 6, 7, 8)  # EXIF orientations that lie on their side
ORIENTATION = 0x0112
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)

Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")
R = TypeVar("R")


class Shape(NamedTuple):
    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Bad:
    """The picture in row `row` cannot be used, and why."""

    row: int
    reason: str


@dataclass(frozen=True)
class Headers:
    """What the files say of themselves: of each its (height, width), and whether any has colours."""

    sizes: list[tuple[int, int] | None]
    is_coloured: bool
    bad: list[Bad]


def headers_of(root: Path, paths: Sequence[str]) -> Headers:
    """From the cache, as long as no file has changed, or read now: to open thousands of files takes seconds."""
    folder = cache_folder() / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{_key(root, paths, None)}.headers.json"
    with locked(place.with_suffix(".lock")):
        if not place.exists():
            found = _read_headers([root / path for path in paths])
            write_atomically(place, json.dumps(asdict(found)))
    kept = json.loads(place.read_text())
    sizes = [None if size is None else (size[0], size[1]) for size in kept["sizes"]]
    return Headers(sizes, kept["is_coloured"], [Bad(**each) for each in kept["bad"]])


def _read_headers(paths: Sequence[Path]) -> Headers:
    def read(path: Path) -> tuple[tuple[int, int], bool] | str:
        try:
            if path.stat().st_size == 0:
                return "is empty"
            with Image.open(path) as picture:
                if picture.mode.startswith(("I", "F")):
                    return f"has pixels of more than 8 bits ({picture.mode}); save it with 8"
                width, height = picture.size
                turned = picture.getexif().get(ORIENTATION) in TURNED
                return ((width, height) if turned else (height, width)), picture.mode not in GREY
        except UNREADABLE as problem:
            return _in_words(problem)

    found = list(_side_by_side(read, paths, "reading the headers"))
    bad = [Bad(row, each) for row, each in enumerate(found) if isinstance(each, str)]
    good = [each for each in found if not isinstance(each, str)]
    sizes = [None if isinstance(each, str) else each[0] for each in found]
    return Headers(sizes, any(coloured for _, coloured in good), bad)


def decode(path: Path, shape: Shape) -> Pixels:
    """(C, H, W); scaled until it covers H x W, and what stands out on two sides is cut off. Alpha is dropped."""
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("L" if shape.channels == 1 else "RGB")
    if picture.size != (shape.width, shape.height):
        picture = ImageOps.fit(picture, (shape.width, shape.height), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[None] if shape.channels == 1 else pixels.transpose(2, 0, 1)


@dataclass(frozen=True)
class Cached:
    """The pixels (N, C, H, W) uint8; `hashes` (N, 16) uint8 tell equal pictures from others."""

    file: RowFile
    hashes: Pixels
    bad: list[Bad]


@dataclass(frozen=True)
class Facts:
    """What is kept of the picture in row `row` beside its pixels: see RowFile."""

    hash: bytes
    sums: npt.NDArray[np.int64]
    wrong: str = ""


def cached(root: Path, paths: Sequence[str], shape: Shape) -> Cached:
    """The pictures in this order, from the cache, or decoded into it now.

    The cache knows them by path, size and time of change: whichever differs, all are decoded anew; and so they are
    when the file of pixels is not as it was left.
    """
    folder = cache_folder() / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / _key(root, paths, shape)
    pixels, about, rows = (place.with_suffix(suffix) for suffix in (".pixels", ".json", ".npz"))
    with locked(place.with_suffix(".lock")):
        if not (about.exists() and rows.exists() and _state(pixels) == json.loads(about.read_text())["pixels"]):
            facts = _fill(root, paths, shape, pixels)
            write_atomically(rows, _packed(facts))
            bad = [[row, each.wrong] for row, each in enumerate(facts) if each.wrong]
            write_atomically(about, json.dumps({"pixels": _state(pixels), "bad": bad}))
        with np.load(rows, allow_pickle=False) as known:
            hashes, sums = known["hashes"], known["sums"]
    file = RowFile(pixels, (len(paths), *shape), torch.uint8, hashes, sums)
    return Cached(file, hashes, [Bad(*each) for each in json.loads(about.read_text())["bad"]])


def _packed(facts: list[Facts]) -> bytes:
    content = io.BytesIO()
    hashes = np.frombuffer(b"".join(each.hash for each in facts), dtype=np.uint8).reshape(-1, HASH_BYTES)
    np.savez(content, hashes=hashes, sums=np.stack([each.sums for each in facts]))
    return content.getvalue()


def _state(path: Path) -> list[int]:
    """Empty for a file that is not there."""
    return [path.stat().st_size, path.stat().st_mtime_ns] if path.exists() else []


def _fill(root: Path, paths: Sequence[str], shape: Shape, target: Path) -> list[Facts]:
    """What is half done never has the name `target`."""
    unfinished = target.with_name(f"{target.stem}-{uuid4().hex}.unfinished")
    try:
        found = _decode_all(root, paths, shape, unfinished)
        os.replace(unfinished, target)
    except OSError as problem:
        gigabytes = len(paths) * int(np.prod(shape)) / 1e9
        raise DataError(
            f"the pixels of {root} ({len(paths):,} pictures, {gigabytes:.1f} GB) cannot be kept in {target.parent}: "
            f"{problem}. Make room there, or choose another place: XDG_CACHE_HOME=/large/disk"
        ) from problem
    finally:
        unfinished.unlink(missing_ok=True)
    return found


def _decode_all(root: Path, paths: Sequence[str], shape: Shape, target: Path) -> list[Facts]:
    """Of each picture; its pixels in `target`."""
    size = int(np.prod(shape))
    with target.open("wb") as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is told now
            os.posix_fallocate(file.fileno(), 0, len(paths) * size)
        else:
            file.truncate(len(paths) * size)

        def put(row: int) -> Facts:
            try:
                pixels = decode(root / paths[row], shape)
            except UNREADABLE as problem:
                return Facts(bytes(HASH_BYTES), np.zeros((shape.channels, 2), dtype=np.int64), _in_words(problem))
            content = pixels.tobytes()
            os.pwrite(file.fileno(), content, row * size)
            return Facts(hashlib.blake2b(content, digest_size=HASH_BYTES).digest(), sums_of(pixels))

        return list(_side_by_side(put, range(len(paths)), "decoding pictures"))


def sums_of(pixels: Pixels) -> npt.NDArray[np.int64]:
    """(C, 2): of each channel of (C, H, W) the sum of its values, and of their squares."""
    values = pixels.reshape(len(pixels), -1).astype(np.int64)
    return np.stack([values.sum(1), (values * values).sum(1)], axis=1)


def _side_by_side(call: Callable[[T], R], items: Sequence[T], what: str) -> Iterator[R]:
    """In order. By threads: Pillow decodes outside of Python's lock."""
    with ThreadPoolExecutor() as pool, _progress(what, len(items)) as advance:
        for first in range(0, len(items), 64 * PICTURES_AT_A_TIME):
            some = items[first : first + 64 * PICTURES_AT_A_TIME]
            yield from pool.map(call, some)
            advance(len(some))


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)


def _key(root: Path, paths: Sequence[str], shape: Shape | None) -> str:
    result = hashlib.sha256(f"{VERSION} {root.resolve()} {shape and tuple(shape)}\n".encode())
    for path in paths:
        state = (root / path).stat()
        result.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return result.hexdigest()[:32]


def _in_words(problem: BaseException) -> str:
    if isinstance(problem, UnidentifiedImageError):
        return "is no picture that can be read"
    if isinstance(problem, Image.DecompressionBombError):
        return "has more pixels than a picture should have"
    return f"cannot be read: {str(problem) or type(problem).__name__}"
