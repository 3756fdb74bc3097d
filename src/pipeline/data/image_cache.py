"""Pictures and what their files say of them, decoded into the cache."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.data import mapped_cache
from pipeline.data.mapped_cache import Bad, Cached, Decoding, Unreadable, key_of, side_by_side
from pipeline.files import cache_folder, locked, write_atomically

# N pictures, C channels, H height, W width

VERSION = 1  # of what decoding does: another one, and all caches are made anew
GREY = ("1", "L", "LA")
TURNED = (5, 6, 7, 8)  # EXIF orientations that lie on their side
ORIENTATION = 0x0112
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)

Pixels = npt.NDArray[np.uint8]


class Shape(NamedTuple):
    channels: int
    height: int
    width: int


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
    place = folder / f"{key_of(root, paths, f'headers {VERSION}')}.headers.json"
    with locked(place.with_suffix(".lock")):
        if not place.exists():
            write_atomically(place, json.dumps(asdict(_read_headers([root / path for path in paths]))))
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

    found = list(side_by_side(read, paths, "reading the headers"))
    bad = [Bad(row, each) for row, each in enumerate(found) if isinstance(each, str)]
    good = [each for each in found if not isinstance(each, str)]
    sizes = [None if isinstance(each, str) else each[0] for each in found]
    return Headers(sizes, any(coloured for _, coloured in good), bad)


def decode(path: Path, shape: Shape) -> Pixels:
    """(C, H, W); scaled until it covers H x W, and what stands out on two sides is cut off. Alpha is dropped."""
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened).convert("L" if shape.channels == 1 else "RGB")
        if picture.size != (shape.width, shape.height):
            picture = ImageOps.fit(picture, (shape.width, shape.height), Image.Resampling.BILINEAR)
    except UNREADABLE as problem:
        raise Unreadable(_in_words(problem)) from problem
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[None] if shape.channels == 1 else pixels.transpose(2, 0, 1)


def cached(root: Path, shape: Shape, paths: Sequence[str]) -> Cached:
    """inputs (N, C, H, W) uint8, the pictures in this order."""
    decoding = Decoding("picture", str(VERSION), tuple(shape), np.uint8, partial(decode, shape=shape))
    return mapped_cache.cached(root, paths, decoding)


def _in_words(problem: BaseException) -> str:
    if isinstance(problem, UnidentifiedImageError):
        return "is no picture that can be read"
    if isinstance(problem, Image.DecompressionBombError):
        return "has more pixels than a picture should have"
    return f"cannot be read: {str(problem) or type(problem).__name__}"
