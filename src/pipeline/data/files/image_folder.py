"""The source for a user's own images: folders or lists of files, their headers, and their decoded pixels."""

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
from pipeline.data.files.cache import BadFile, Decoder, UnreadableFile
from pipeline.data.files.labelled_files import FileKind, LabelledFile
from pipeline.errors import ConfigError, DataError
from pipeline.spec import Kind
from pipeline.system.files import cache_folder, file_lock, write_atomically

# C channels, H height, W width

IMAGE_FILES = FileKind("image", (".jpg", ".jpeg", ".png", ".webp", ".bmp"))
CACHES = "pictures"  # the folder of their caches
VERSION = 1  # of decode_image; another number makes all caches of pixels invalid
HEADERS_VERSION = 2  # of read_image_header; another number makes all caches of headers invalid
GREY_MODES = ("1", "L", "LA", "I;16")
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
ORIENTATION = 0x0112
TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError)
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, *TOO_LARGE)

Pixels = npt.NDArray[np.uint8]
log = logging.getLogger(__name__)


class ImageShape(NamedTuple):
    channels: int
    height: int
    width: int


class ImageHeader(NamedTuple):
    """Facts about an image: `highest` is the largest value of a grey one with 16 bits, else 0; `is_deep`: 16 bits."""

    height: int
    width: int
    is_coloured: bool
    highest: int
    is_deep: bool
    is_animated: bool


@dataclass(frozen=True)
class ImageHeaders:
    """The headers of all files, in their order; None for those that are `bad`."""

    headers: list[ImageHeader | None]
    bad: list[BadFile]

    @property
    def sizes(self) -> list[tuple[int, int] | None]:
        """Return (height, width) for each file."""
        return [None if header is None else (header.height, header.width) for header in self.headers]

    @property
    def is_coloured(self) -> bool:
        return any(header is not None and header.is_coloured for header in self.headers)

    @property
    def grey_bits(self) -> int:
        """Return how many bits the grey images with 16 bits use, such as 12 in medicine; 0 without such images."""
        return max((header.highest for header in self.headers if header is not None), default=0).bit_length()

    def rows_where(self, condition: Callable[[ImageHeader], bool]) -> list[int]:
        return [row for row, header in enumerate(self.headers) if header is not None and condition(header)]


class ImageFolder:
    """Images in `data.root`, with their labels.

    The images are in one folder a class; or in `train`, `validation` and `test` with such folders; or in `labels`, a
    CSV of path, label and perhaps split, where `label_separator` separates any number of labels of an image. Splits
    that do not exist are taken from the training images by their shares.

    The formats are JPEG, PNG, WebP and BMP. `size` is [height, width]; None keeps the size, which must then be the same
    for all. `channels` is 1 for grey, 3 for colour, None for what the images have. Pixels are decoded once into a file.
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
                f"data.source.label_separator={label_separator} separates labels in a list of images: name a list in "
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
        builder = SplitBuilder(IMAGE_FILES, root, self.shares, self.split_seed, self.on_bad_sample)
        if self.labels is not None:
            files, problems = labelled_files.files_in_list(root, self.labels, self.label_separator)
        else:
            files, problems = labelled_files.files_in_folders(root, IMAGE_FILES)
        files, skipped = builder.labelled(*builder.readable(files, problems))
        paths = [file.path for file in files]
        headers = read_image_headers(root, paths)
        shape = self._shape(headers, files, root)
        warn_of_lost_detail(headers, paths)
        files, decoded = builder.decoded(files, headers.bad, image_decoder(shape, headers.grey_bits))
        names, task, splits = make_splits(files, decoded.inputs)
        return Splits(root.resolve().name, "image", task, names, *splits, skipped=skipped + decoded.skipped)

    def _shape(self, headers: ImageHeaders, files: list[LabelledFile], root: Path) -> ImageShape:
        channels = self.channels if self.channels is not None else 3 if headers.is_coloured else 1
        if self.size is not None:
            return ImageShape(channels, *self.size)
        counts = Counter(size for size in headers.sizes if size is not None)
        if not counts:
            raise DataError(f"{root}: none of its {len(files)} images can be read; the first {headers.bad[0].reason}.")
        (usual, count), *others = counts.most_common()
        if others:
            row = next(row for row, size in enumerate(headers.sizes) if size not in (None, usual))
            height, width = headers.sizes[row] or usual
            raise ConfigError(
                f"the images of {root} differ in size: {count} are {usual[0]} high and {usual[1]} wide, "
                f"{files[row].path} is {height} by {width}. Type to which size all are scaled: "
                f"data.source.size=[{usual[0]},{usual[1]}]"
            )
        return ImageShape(channels, *usual)


def warn_of_lost_detail(headers: ImageHeaders, paths: Sequence[str]) -> None:
    """Warn of 16 bits that become 8, and of animations, of which one frame is read."""
    deep = headers.rows_where(lambda header: header.is_deep)
    if deep:
        grey = f"; of grey ones 0 to {2**headers.grey_bits - 1} becomes 0 to 255" if headers.grey_bits > 8 else ""
        log.warning(
            f"{len(deep)} of {len(paths)} images have 16 bits, such as {escape_unprintable(paths[deep[0]])}: they are "
            f"read with 8{grey}"
        )
    animated = headers.rows_where(lambda header: header.is_animated)
    if animated:
        log.warning(
            f"{len(animated)} of {len(paths)} images are animated, such as {escape_unprintable(paths[animated[0]])}: "
            "their first frame is read"
        )


def read_image_headers(root: Path, paths: Sequence[str]) -> ImageHeaders:
    """Return the headers, from the cache while no file changes: to open thousands of files takes seconds."""
    folder = cache_folder() / CACHES
    folder.mkdir(parents=True, exist_ok=True)
    cached = folder / f"{cache.cache_key(root, paths, f'headers {HEADERS_VERSION}')}.headers.json"
    with file_lock(cached.with_suffix(".lock")):
        if not cached.exists():
            headers, bad = cache.read_headers(read_image_header, [root / path for path in paths])
            write_atomically(cached, json.dumps({"each": headers, "bad": list(map(asdict, bad))}))
        content = json.loads(cached.read_text())
    headers = [None if header is None else ImageHeader(*header) for header in content["each"]]
    return ImageHeaders(headers, [BadFile(**bad) for bad in content["bad"]])


def read_image_header(path: Path) -> ImageHeader:
    """Return the header of a file. Raises UnreadableFile."""
    try:
        if path.stat().st_size == 0:
            raise UnreadableFile("is empty")
        with Image.open(path) as image:
            is_deep = ";16" in str(image.tile) or _is_deep_grey(image)  # before it is loaded; then the tile is gone
            if image.mode in ("I", "F") and not is_deep:
                raise UnreadableFile(
                    f"has pixels of 32 bits ({image.mode}), expected 8 or 16: convert it, for example to PNG"
                )
            width, height = image.size
            if image.getexif().get(ORIENTATION) in SIDEWAYS:
                width, height = height, width
            is_animated, is_coloured = getattr(image, "is_animated", False), image.mode not in (*GREY_MODES, "I")
            highest = int(np.asarray(image).max()) if _is_deep_grey(image) else 0
            return ImageHeader(height, width, is_coloured, highest, is_deep, is_animated)
    except UNREADABLE as problem:
        raise UnreadableFile(_describe(problem)) from problem


def _is_deep_grey(image: Image.Image) -> bool:
    """Return whether an image is grey with 16 bits; older versions of Pillow call its mode I."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


def image_decoder(shape: ImageShape, grey_bits: int) -> Decoder:
    """Return a decoder for (C, H, W) uint8."""
    version = f"{VERSION} {grey_bits}" if grey_bits else str(VERSION)
    decode = partial(decode_image, shape=shape, grey_bits=grey_bits)
    return Decoder(IMAGE_FILES.noun, CACHES, version, tuple(shape), np.uint8, decode)


def decode_image(path: Path, shape: ImageShape, grey_bits: int = 0) -> Pixels:
    """Return (C, H, W), scaled until it covers H x W and cropped at the centre. Raises UnreadableFile.

    Alpha is dropped; of an animation the first frame is taken; the lowest `grey_bits` of grey with 16 bits become 8.
    """
    try:
        with Image.open(path) as opened:
            is_deep_grey = _is_deep_grey(opened)
            image = ImageOps.exif_transpose(opened)
            image = _to_8_bits(image, grey_bits) if is_deep_grey else image
            image = image.convert("L" if shape.channels == 1 else "RGB")
        if image.size != (shape.width, shape.height):
            image = ImageOps.fit(image, (shape.width, shape.height), Image.Resampling.BILINEAR)
    except UNREADABLE as problem:
        raise UnreadableFile(_describe(problem)) from problem
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if shape.channels == 1 else pixels.transpose(2, 0, 1)


def _to_8_bits(image: Image.Image, grey_bits: int) -> Image.Image:
    highest = 2 ** max(grey_bits, 8) - 1
    values = np.asarray(image).astype(np.float32) * (255 / highest)
    return Image.fromarray(np.rint(values).clip(0, 255).astype(np.uint8))


def _describe(problem: BaseException) -> str:
    if isinstance(problem, UnidentifiedImageError):
        return "is not an image that can be read"
    if isinstance(problem, TOO_LARGE):
        return "has more pixels than an image should have"
    return f"cannot be read: {str(problem) or type(problem).__name__}"
