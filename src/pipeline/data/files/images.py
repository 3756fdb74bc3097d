"""Image files: their headers, and their pixels, decoded into the cache."""

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.data.files import cache
from pipeline.data.files.cache import Bad, Cached, Decoding, Unreadable, key_of, side_by_side
from pipeline.system.files import cache_folder, locked, write_atomically

# N pictures, C channels, H height, W width

VERSION = 1  # of what decoding does: another one, and all caches are made anew
HEADERS_VERSION = 2  # the same of what is read of the headers
GREY = ("1", "L", "LA", "I;16")
TURNED = (5, 6, 7, 8)  # EXIF orientations that lie on their side
ORIENTATION = 0x0112
TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError)
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, *TOO_LARGE)

Pixels = npt.NDArray[np.uint8]


class Shape(NamedTuple):
    channels: int
    height: int
    width: int


class Header(NamedTuple):
    """`highest` value of a grey picture with 16 bits, else 0; `is_deep`: it has 16 bits, of whatever."""

    height: int
    width: int
    is_coloured: bool
    highest: int
    is_deep: bool
    moves: bool


@dataclass(frozen=True)
class Headers:
    """The headers of files, in their order; None for those that are `bad`."""

    each: list[Header | None]
    bad: list[Bad]

    @property
    def sizes(self) -> list[tuple[int, int] | None]:
        """(height, width)"""
        return [None if header is None else (header.height, header.width) for header in self.each]

    @property
    def is_coloured(self) -> bool:
        return any(header is not None and header.is_coloured for header in self.each)

    @property
    def grey_bits(self) -> int:
        """Return the bits in use by grey pictures with 16 bits, such as 12 in medicine; 0 without such pictures."""
        return max((header.highest for header in self.each if header is not None), default=0).bit_length()

    def which(self, holds: Callable[[Header], bool]) -> list[int]:
        return [row for row, header in enumerate(self.each) if header is not None and holds(header)]


def headers_of(root: Path, paths: Sequence[str]) -> Headers:
    """Return the headers, from the cache if no file has changed: opening thousands of files takes seconds."""
    folder = cache_folder() / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{key_of(root, paths, f'headers {HEADERS_VERSION}')}.headers.json"
    with locked(place.with_suffix(".lock")):
        if not place.exists():
            found = _read_headers([root / path for path in paths])
            write_atomically(place, json.dumps({"each": found.each, "bad": list(map(asdict, found.bad))}))
    kept = json.loads(place.read_text())
    each = [None if header is None else Header(*header) for header in kept["each"]]
    return Headers(each, [Bad(**bad) for bad in kept["bad"]])


def _read_headers(paths: Sequence[Path]) -> Headers:
    found = list(side_by_side(_header_of, paths, "reading the headers"))
    bad = [Bad(row, each) for row, each in enumerate(found) if isinstance(each, str)]
    return Headers([None if isinstance(each, str) else each for each in found], bad)


def _header_of(path: Path) -> Header | str:
    """Return a file's header, or why it cannot be used."""
    try:
        if path.stat().st_size == 0:
            return "is empty"
        with Image.open(path) as picture:
            is_deep = ";16" in str(picture.tile) or _is_deep_grey(picture)  # until it is loaded
            if picture.mode in ("I", "F") and not is_deep:
                return f"has pixels of 32 bits ({picture.mode}), expected 8 or 16: save it so, as PNG"
            width, height = picture.size
            if picture.getexif().get(ORIENTATION) in TURNED:
                width, height = height, width
            moves, is_coloured = getattr(picture, "is_animated", False), picture.mode not in (*GREY, "I")
            highest = int(np.asarray(picture).max()) if _is_deep_grey(picture) else 0
            return Header(height, width, is_coloured, highest, is_deep, moves)
    except UNREADABLE as problem:
        return _in_words(problem)


def _is_deep_grey(picture: Image.Image) -> bool:
    """Return whether a picture is grey with 16 bits; older versions of Pillow call its mode I."""
    return picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG")


def decode(path: Path, shape: Shape, grey_bits: int = 0) -> Pixels:
    """(C, H, W); scaled until it covers H x W, and what stands out on two sides is cut off. Alpha is dropped, and of
    what moves the first frame taken. Of grey with 16 bits the lowest `grey_bits` become 8."""
    try:
        with Image.open(path) as opened:
            is_deep_grey = _is_deep_grey(opened)
            picture = ImageOps.exif_transpose(opened)
            picture = _with_8_bits(picture, grey_bits) if is_deep_grey else picture
            picture = picture.convert("L" if shape.channels == 1 else "RGB")
        if picture.size != (shape.width, shape.height):
            picture = ImageOps.fit(picture, (shape.width, shape.height), Image.Resampling.BILINEAR)
    except UNREADABLE as problem:
        raise Unreadable(_in_words(problem)) from problem
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[None] if shape.channels == 1 else pixels.transpose(2, 0, 1)


def _with_8_bits(picture: Image.Image, grey_bits: int) -> Image.Image:
    highest = 2 ** max(grey_bits, 8) - 1
    values = np.asarray(picture).astype(np.float32) * (255 / highest)
    return Image.fromarray(np.rint(values).clip(0, 255).astype(np.uint8))


def cached(root: Path, shape: Shape, grey_bits: int, paths: Sequence[str]) -> Cached:
    """Return the pictures in this order; inputs are (N, C, H, W) uint8."""
    version = f"{VERSION} {grey_bits}" if grey_bits else str(VERSION)
    decoding = Decoding("picture", version, tuple(shape), np.uint8, partial(decode, shape=shape, grey_bits=grey_bits))
    return cache.cached(root, paths, decoding)


def _in_words(problem: BaseException) -> str:
    if isinstance(problem, UnidentifiedImageError):
        return "is no picture that can be read"
    if isinstance(problem, TOO_LARGE):
        return "has more pixels than a picture should have"
    return f"cannot be read: {str(problem) or type(problem).__name__}"
