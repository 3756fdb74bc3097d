"""A user's own images."""

import json
import logging
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.constraints import PositiveInt, ProperFraction, Seed
from pipeline.data.bad_samples import escape_unprintable
from pipeline.data.dataset import Splits
from pipeline.data.files import cache, labelled_files
from pipeline.data.files.build_splits import SplitBuilder, existing_folder, make_splits
from pipeline.data.files.cache import BadFile, DecodedFiles, Decoder, UnreadableFile, cache_key, map_in_threads
from pipeline.data.files.labelled_files import FileKind, LabelledFile
from pipeline.errors import ConfigError, DataError
from pipeline.spec import Kind
from pipeline.system.files import cache_folder, file_lock, write_atomically

# N pictures, C channels, H height, W width

VERSION = 1  # of what decoding does: another one, and all caches are made anew
HEADERS_VERSION = 2  # the same of what is read of the headers
GREY_MODES = ("1", "L", "LA", "I;16")
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that lie on their side
ORIENTATION = 0x0112
TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError)
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, *TOO_LARGE)

Pixels = npt.NDArray[np.uint8]


class ImageShape(NamedTuple):
    channels: int
    height: int
    width: int


class ImageHeader(NamedTuple):
    """`highest` value of a grey picture with 16 bits, else 0; `is_deep`: it has 16 bits, of whatever."""

    height: int
    width: int
    is_coloured: bool
    highest: int
    is_deep: bool
    moves: bool


@dataclass(frozen=True)
class ImageHeaders:
    """The headers of files, in their order; None for those that are `bad`."""

    each: list[ImageHeader | None]
    bad: list[BadFile]

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

    def which(self, holds: Callable[[ImageHeader], bool]) -> list[int]:
        return [row for row, header in enumerate(self.each) if header is not None and holds(header)]


def read_image_headers(root: Path, paths: Sequence[str]) -> ImageHeaders:
    """Return the headers, from the cache if no file has changed: opening thousands of files takes seconds."""
    folder = cache_folder() / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{cache_key(root, paths, f'headers {HEADERS_VERSION}')}.headers.json"
    with file_lock(place.with_suffix(".lock")):
        if not place.exists():
            found = _read_headers([root / path for path in paths])
            write_atomically(place, json.dumps({"each": found.each, "bad": list(map(asdict, found.bad))}))
    kept = json.loads(place.read_text())
    each = [None if header is None else ImageHeader(*header) for header in kept["each"]]
    return ImageHeaders(each, [BadFile(**bad) for bad in kept["bad"]])


def _read_headers(paths: Sequence[Path]) -> ImageHeaders:
    found = list(map_in_threads(_read_image_header, paths, "reading the headers"))
    bad = [BadFile(row, each) for row, each in enumerate(found) if isinstance(each, str)]
    return ImageHeaders([None if isinstance(each, str) else each for each in found], bad)


def _read_image_header(path: Path) -> ImageHeader | str:
    """Return a file's header, or why it cannot be used."""
    try:
        if path.stat().st_size == 0:
            return "is empty"
        with Image.open(path) as picture:
            is_deep = ";16" in str(picture.tile) or _is_deep_grey(picture)  # until it is loaded
            if picture.mode in ("I", "F") and not is_deep:
                return f"has pixels of 32 bits ({picture.mode}), expected 8 or 16: save it so, as PNG"
            width, height = picture.size
            if picture.getexif().get(ORIENTATION) in SIDEWAYS:
                width, height = height, width
            moves, is_coloured = getattr(picture, "is_animated", False), picture.mode not in (*GREY_MODES, "I")
            highest = int(np.asarray(picture).max()) if _is_deep_grey(picture) else 0
            return ImageHeader(height, width, is_coloured, highest, is_deep, moves)
    except UNREADABLE as problem:
        return _describe_problem(problem)


def _is_deep_grey(picture: Image.Image) -> bool:
    """Return whether a picture is grey with 16 bits; older versions of Pillow call its mode I."""
    return picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG")


def decode_image(path: Path, shape: ImageShape, grey_bits: int = 0) -> Pixels:
    """(C, H, W); scaled until it covers H x W, and what stands out on two sides is cut off. Alpha is dropped, and of
    what moves the first frame taken. Of grey with 16 bits the lowest `grey_bits` become 8."""
    try:
        with Image.open(path) as opened:
            is_deep_grey = _is_deep_grey(opened)
            picture = ImageOps.exif_transpose(opened)
            picture = _to_8_bits(picture, grey_bits) if is_deep_grey else picture
            picture = picture.convert("L" if shape.channels == 1 else "RGB")
        if picture.size != (shape.width, shape.height):
            picture = ImageOps.fit(picture, (shape.width, shape.height), Image.Resampling.BILINEAR)
    except UNREADABLE as problem:
        raise UnreadableFile(_describe_problem(problem)) from problem
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[None] if shape.channels == 1 else pixels.transpose(2, 0, 1)


def _to_8_bits(picture: Image.Image, grey_bits: int) -> Image.Image:
    highest = 2 ** max(grey_bits, 8) - 1
    values = np.asarray(picture).astype(np.float32) * (255 / highest)
    return Image.fromarray(np.rint(values).clip(0, 255).astype(np.uint8))


def decoded_images(root: Path, shape: ImageShape, grey_bits: int, paths: Sequence[str]) -> DecodedFiles:
    """Return the pictures in this order; inputs are (N, C, H, W) uint8."""
    version = f"{VERSION} {grey_bits}" if grey_bits else str(VERSION)
    decoding = Decoder(
        "picture", version, tuple(shape), np.uint8, partial(decode_image, shape=shape, grey_bits=grey_bits)
    )
    return cache.load_decoded(root, paths, decoding)


def _describe_problem(problem: BaseException) -> str:
    if isinstance(problem, UnidentifiedImageError):
        return "is no picture that can be read"
    if isinstance(problem, TOO_LARGE):
        return "has more pixels than a picture should have"
    return f"cannot be read: {str(problem) or type(problem).__name__}"


log = logging.getLogger(__name__)

IMAGE_FILES = FileKind("picture", (".jpg", ".jpeg", ".png", ".webp", ".bmp"))


class ImageFolder:
    """`data.root`: one folder a class; or `train`, `validation` and `test` with such folders; or `labels`, a CSV of
    path, label and perhaps split, in which `label_separator` stands between any number of labels of a picture. Parts
    that are not there are cut from the training pictures by their shares.

    JPEG, PNG, WebP or BMP. `size` is [height, width], None that of the pictures, which are then all alike; `channels`
    1 for grey, 3 for colour, None what the pictures have. The pixels are decoded once, into a file.
    """

    kind: ClassVar[Kind] = "image"

    def __init__(
        self,
        *,
        labels: str | None,
        label_separator: str | None,
        size: tuple[PositiveInt, PositiveInt] | None,
        channels: Literal[1, 3] | None,
        validation_share: ProperFraction,
        test_share: ProperFraction,
        split_seed: Seed,
        on_bad_sample: Literal["fail", "skip"],
    ) -> None:
        if label_separator is not None and labels is None:
            raise ConfigError(
                f"data.source.label_separator={label_separator} parts labels in a list of pictures: name one in "
                "data.root, data.source.labels=labels.csv, or leave it out"
            )
        self.labels = labels
        self.label_separator = label_separator
        self.size = size
        self.channels = channels
        self.shares = {"test": test_share, "validation": validation_share}
        self.split_seed = split_seed
        self.on_bad_sample = on_bad_sample

    def load(self, root: Path | None) -> Splits:
        root = existing_folder(root, option="image_folder", noun=IMAGE_FILES.noun)
        selection = SplitBuilder(IMAGE_FILES, root, self.shares, self.split_seed, self.on_bad_sample)
        if self.labels is not None:
            pictures, wrong = labelled_files.files_in_list(root, self.labels, self.label_separator)
        else:
            pictures, wrong = labelled_files.files_in_folders(root, IMAGE_FILES)
        pictures, skipped = selection.labelled(*selection.readable(pictures, wrong))
        headers = read_image_headers(root, [picture.path for picture in pictures])
        shape = self._shape(headers, pictures, root)
        warn_of_lost_detail(headers, [picture.path for picture in pictures])
        decode = partial(decoded_images, root, shape, headers.grey_bits)
        pictures, found = selection.decoded(pictures, headers.bad, decode)
        names, task, parts = make_splits(pictures, found.inputs)
        name = root.resolve().name
        return Splits(name, "image", task, names, *parts, skipped=skipped + found.skipped)

    def _shape(self, headers: ImageHeaders, pictures: list[LabelledFile], root: Path) -> ImageShape:
        channels = self.channels if self.channels is not None else 3 if headers.is_coloured else 1
        if self.size is not None:
            return ImageShape(channels, *self.size)
        counts = Counter(size for size in headers.sizes if size is not None)
        if not counts:
            raise DataError(
                f"{root}: none of its {len(pictures)} pictures can be read; the first {headers.bad[0].reason}."
            )
        (usual, count), *others = counts.most_common()
        if others:
            odd = next(row for row, size in enumerate(headers.sizes) if size not in (None, usual))
            height, width = headers.sizes[odd] or usual
            raise ConfigError(
                f"the pictures of {root} differ in size: {count} are {usual[0]} high and {usual[1]} wide, "
                f"{pictures[odd].path} is {height} by {width}. Say to which size all are scaled: "
                f"data.source.size=[{usual[0]},{usual[1]}]"
            )
        return ImageShape(channels, *usual)


def warn_of_lost_detail(headers: ImageHeaders, paths: Sequence[str]) -> None:
    """Warn of pictures that hold more than is read of them."""
    deep, moving = headers.which(lambda each: each.is_deep), headers.which(lambda each: each.moves)
    if deep:
        grey = f"; of grey ones 0 to {2**headers.grey_bits - 1} becomes 0 to 255" if headers.grey_bits > 8 else ""
        log.warning(
            f"{len(deep)} of {len(paths)} pictures have 16 bits, such as {escape_unprintable(paths[deep[0]])}: they "
            f"are read with 8{grey}"
        )
    if moving:
        log.warning(
            f"{len(moving)} of {len(paths)} pictures move, such as {escape_unprintable(paths[moving[0]])}: their first "
            "frame is read"
        )
