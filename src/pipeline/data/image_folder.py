"""A user's own pictures."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from pipeline.data import image_cache, picture_files
from pipeline.data.faults import OnBadSample, leave_out, warn_of_copies
from pipeline.data.image_cache import Bad, Headers, Pixels, Shape
from pipeline.data.picture_files import Picture
from pipeline.data.source import Cut, Part, Parts
from pipeline.data.stored import Stored
from pipeline.errors import ConfigError, DataError
from pipeline.spec import TaskKind

ORDER = ("train", "validation", "test")


class ImageFolder:
    """`data.root`: one folder a class; or `train`, `validation` and `test` with such folders; or `labels`, a CSV of
    path, label and perhaps split. Parts that are not there are cut from the training pictures by their shares.

    JPEG, PNG, WebP or BMP. `size` is [height, width], None that of the pictures, which are then all alike; `channels`
    1 for grey, 3 for colour, None what the pictures have. The pixels are decoded once, into a file.
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
        on_bad_sample: OnBadSample,
    ) -> None:
        self.labels = labels
        self.size = size
        self.channels = channels
        self.cut = Cut(validation_share, test_share, split_seed)
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
        headers = image_cache.headers_of(root, [picture.path for picture in pictures])
        shape = self._shape(headers, pictures, root)
        readable = self._without(headers.bad, pictures, root)
        found = image_cache.cached(root, [picture.path for picture in readable], shape)
        usable = self._without(found.bad, readable, root)
        parts = self._parted(usable)
        rows = {picture.path: row for row, picture in enumerate(readable)}
        inputs = {part: torch.tensor([rows[each.path] for each in some]) for part, some in parts.items()}
        _warn_of_copies(parts, {part: found.hashes[each.numpy()] for part, each in inputs.items()}, root)
        names = tuple(sorted({picture.label for picture in usable}))
        numbers = {name: number for number, name in enumerate(names)}
        train, validation, test = (
            Part(Stored(found.file, inputs[part]), torch.tensor([numbers[each.label] for each in parts[part]]))
            for part in ORDER
        )
        task: TaskKind = "binary" if len(names) == 2 else "multiclass"
        skipped = _told(headers.bad, pictures, root) + _told(found.bad, readable, root)
        name = root.resolve().name
        return Parts(name, "image", task, names, train, validation, test, skipped=skipped)

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

    def _without(self, bad: list[Bad], pictures: list[Picture], root: Path) -> list[Picture]:
        if not bad:
            return pictures
        leave_out(_told(bad, pictures, root), len(pictures), "pictures", self.on_bad_sample)
        rows = {each.row for each in bad}
        kept = [picture for row, picture in enumerate(pictures) if row not in rows]
        picture_files.check_labels_of(kept, root)
        return kept

    def _parted(self, pictures: list[Picture]) -> dict[str, list[Picture]]:
        """The pictures of each part; what the folder does not give is cut by labels, paths and `split_seed` alone."""
        given = {part: [picture for picture in pictures if picture.part == part] for part in ORDER[1:]}
        free = [picture for picture in pictures if picture.part in (None, "train")]
        _, labels = np.unique([picture.label for picture in free], return_inverse=True)
        cut = self.cut.rows(labels, [part for part, some in given.items() if not some])
        parted = given | {part: [free[row] for row in np.sort(rows)] for part, rows in cut.items()}
        lost = {picture.label for picture in pictures} - {picture.label for picture in parted["train"]}
        if lost:
            raise DataError(
                f"after the cut no training picture shows {', '.join(sorted(lost))}: add pictures of it, or make "
                "data.source.validation_share and data.source.test_share smaller."
            )
        return {part: parted[part] for part in ORDER}


def _told(bad: list[Bad], pictures: list[Picture], root: Path) -> tuple[str, ...]:
    return tuple(f"{root / pictures[each.row].path} {each.reason}" for each in bad)


def _warn_of_copies(parts: dict[str, list[Picture]], hashes: dict[str, Pixels], root: Path) -> None:
    def named(part: str, row: int) -> str:
        return f"{root / parts[part][row].path} ({part})"

    warn_of_copies({part: [row.tobytes() for row in found] for part, found in hashes.items()}, "pictures", named)
