"""A user's own images."""

import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from pipeline.constraints import PositiveInt, ProperFraction, Seed
from pipeline.data.bad_samples import on_one_line
from pipeline.data.dataset import Splits
from pipeline.data.files import images, labelled_files
from pipeline.data.files.build_splits import Selection, existing, parts_of
from pipeline.data.files.images import Headers, Shape
from pipeline.data.files.labelled_files import FileKind, LabelledFile
from pipeline.errors import ConfigError, DataError
from pipeline.spec import Kind

log = logging.getLogger(__name__)

PICTURES = FileKind("picture", (".jpg", ".jpeg", ".png", ".webp", ".bmp"))


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
        root = existing(root, option="image_folder", noun=PICTURES.noun)
        selection = Selection(PICTURES, root, self.shares, self.split_seed, self.on_bad_sample)
        if self.labels is not None:
            pictures, wrong = labelled_files.in_list(root, self.labels, self.label_separator)
        else:
            pictures, wrong = labelled_files.in_folders(root, PICTURES)
        pictures, skipped = selection.labelled(*selection.readable(pictures, wrong))
        headers = images.headers_of(root, [picture.path for picture in pictures])
        shape = self._shape(headers, pictures, root)
        tell_what_is_lost(headers, [picture.path for picture in pictures])
        decode = partial(images.cached, root, shape, headers.grey_bits)
        pictures, found = selection.decoded(pictures, headers.bad, decode)
        names, task, parts = parts_of(pictures, found.inputs)
        name = root.resolve().name
        return Splits(name, "image", task, names, *parts, skipped=skipped + found.skipped)

    def _shape(self, headers: Headers, pictures: list[LabelledFile], root: Path) -> Shape:
        channels = self.channels if self.channels is not None else 3 if headers.is_coloured else 1
        if self.size is not None:
            return Shape(channels, *self.size)
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
        return Shape(channels, *usual)


def tell_what_is_lost(headers: Headers, paths: Sequence[str]) -> None:
    """Warn of pictures that hold more than is read of them."""
    deep, moving = headers.which(lambda each: each.is_deep), headers.which(lambda each: each.moves)
    if deep:
        grey = f"; of grey ones 0 to {2**headers.grey_bits - 1} becomes 0 to 255" if headers.grey_bits > 8 else ""
        log.warning(
            f"{len(deep)} of {len(paths)} pictures have 16 bits, such as {on_one_line(paths[deep[0]])}: they are read "
            f"with 8{grey}"
        )
    if moving:
        log.warning(
            f"{len(moving)} of {len(paths)} pictures move, such as {on_one_line(paths[moving[0]])}: their first frame "
            "is read"
        )
