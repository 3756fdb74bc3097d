"""A user's own pictures."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from pipeline.data import image_cache, picture_files
from pipeline.data.image_cache import Bad, Cached, Headers, Shape
from pipeline.data.picture_files import Picture
from pipeline.data.skipping import left_out
from pipeline.data.source import Part, Parts
from pipeline.data.splits import stratified_order
from pipeline.errors import ConfigError, DataError
from pipeline.spec import TaskKind

log = logging.getLogger(__name__)

ORDER = ("train", "validation", "test")


class ImageFolder:
    """`data.root`: one folder a class; or `train`, `validation` and `test` with such folders; or `labels`, a CSV of
    path, label and perhaps split. Parts that are not there are cut from the training pictures by their shares.

    JPEG, PNG, WebP or BMP. `size` is [height, width], None that of the pictures, which are then all alike; `channels`
    1 for grey, 3 for colour, None what the pictures have. The pixels are decoded once and mapped into memory.
    """

    def __init__(
        self,
        *,
        labels: str | None,
        size: Sequence[int] | None,
        channels: Literal[1, 3] | None,
        validation_share: float,
        test_share: float,
        split_seed: int,
        on_bad_sample: Literal["fail", "skip"],
    ) -> None:
        self.labels = labels
        self.size = size
        self.channels = channels
        self.shares = {"test": test_share, "validation": validation_share}
        self.split_seed = split_seed
        self.on_bad_sample = on_bad_sample

    def load(self, root: Path | None) -> Parts:
        if root is None:
            raise ConfigError(
                "data=image_folder needs to know where your pictures are: data.root=/path/to/folder, with one folder "
                "a class in it"
            )
        if not root.is_dir():
            raise DataError(f"data.root={root} {'is no folder' if root.exists() else 'does not exist'}.")
        pictures = picture_files.in_list(root, self.labels) if self.labels else picture_files.in_folders(root)
        picture_files.check_labels_of(pictures, root)
        headers = image_cache.read_headers([root / picture.path for picture in pictures])
        shape = self._shape(headers, pictures, root)
        skipped = self._skipped(headers.bad, pictures, root)
        pictures = self._parted(_without(headers.bad, pictures, root))
        found = image_cache.cached(root, [picture.path for picture in pictures], shape)
        if found.bad:
            skipped += self._skipped(found.bad, pictures, root)
            pictures = self._parted(_without(found.bad, pictures, root))
            found = image_cache.cached(root, [picture.path for picture in pictures], shape)
        _warn_of_copies(pictures, found, root)
        return replace(_parts(root.resolve().name, pictures, found), skipped=skipped)

    def _shape(self, headers: Headers, pictures: list[Picture], root: Path) -> Shape:
        channels = self.channels if self.channels is not None else 3 if headers.is_coloured else 1
        if self.size is not None:
            if len(self.size) != 2 or min(self.size) < 1:
                raise ConfigError(f"data.source.size={list(self.size)}: expected [height,width], such as [64,64]")
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

    def _skipped(self, bad: list[Bad], pictures: list[Picture], root: Path) -> tuple[str, ...]:
        lines = [f"{root / pictures[each.row].path} {each.reason}" for each in bad]
        return left_out(lines, on_bad_sample=self.on_bad_sample, of=len(pictures), what="pictures")

    def _parted(self, pictures: list[Picture]) -> list[Picture]:
        """Each with its part; part by part, in an order that follows from names and `split_seed` alone."""
        names = sorted({picture.label for picture in pictures})
        given = {picture.part for picture in pictures}
        free = [picture for picture in pictures if picture.part in (None, "train")]
        order = stratified_order(np.array([names.index(each.label) for each in free]), seed=self.split_seed)
        missing = {part: round(share * len(free)) for part, share in self.shares.items() if part not in given}
        if any(count < 1 for count in missing.values()) or sum(missing.values()) >= len(free):
            shares = " and ".join(f"data.source.{part}_share={self.shares[part]:g}" for part in missing)
            raise ConfigError(f"{shares} of {len(free)} pictures leave a part empty; expected such as 0.2 and 0.2")
        cut, start = {"train": order[sum(missing.values()) :]}, 0
        for part, count in missing.items():
            cut[part], start = order[start : start + count], start + count
        parted = [replace(free[row], part=part) for part, rows in cut.items() for row in sorted(rows)]
        parted += [picture for picture in pictures if picture.part in ("validation", "test")]
        lost = set(names) - {picture.label for picture in parted if picture.part == "train"}
        if lost:
            raise DataError(
                f"after the cut no training picture shows {', '.join(sorted(lost))}: add pictures of it, or make "
                "data.source.validation_share and data.source.test_share smaller."
            )
        return sorted(parted, key=lambda picture: ORDER.index(str(picture.part)))


def _without(bad: list[Bad], pictures: list[Picture], root: Path) -> list[Picture]:
    """Raises DataError where too little is left."""
    rows = {each.row for each in bad}
    kept = [picture for row, picture in enumerate(pictures) if row not in rows]
    if bad:
        picture_files.check_labels_of(kept, root)
    return kept


def _parts(name: str, pictures: list[Picture], found: Cached) -> Parts:
    names = tuple(sorted({picture.label for picture in pictures}))
    targets = torch.tensor([names.index(picture.label) for picture in pictures])
    counts = Counter(picture.part for picture in pictures)
    # Consecutive rows: what is mapped from a file stays there.
    sizes = [counts[part] for part in ORDER]
    inputs, answers = torch.split(found.inputs, sizes), torch.split(targets, sizes)
    train, validation, test = (Part(*each) for each in zip(inputs, answers, strict=True))
    task: TaskKind = "binary" if len(names) == 2 else "multiclass"
    return Parts(name, "image", task, names, train, validation, test)


def _warn_of_copies(pictures: list[Picture], found: Cached, root: Path) -> None:
    """A picture that is learned from and judged on alike makes the score too good."""
    learned = {name: row for row, name in enumerate(found.hashes) if pictures[row].part == "train"}
    copies = [row for row, name in enumerate(found.hashes) if pictures[row].part != "train" and name in learned]
    if copies:
        one, other = pictures[copies[0]], pictures[learned[found.hashes[copies[0]]]]
        log.warning(
            f"{len(copies)} pictures of validation and test stand in the training part, too, such as "
            f"{root / one.path} ({one.part}) and {root / other.path}: the scores will be too good."
        )
