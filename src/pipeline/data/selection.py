"""From a user's files to the three parts: what cannot be used left out, the rest cut and decoded."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from pipeline.data.labelled_files import Kind, LabelledFile, check_labels_of
from pipeline.data.mapped_cache import Bad, Cached
from pipeline.data.source import Part
from pipeline.data.splits import Indices, stratified_order
from pipeline.errors import ConfigError, DataError
from pipeline.spec import TaskKind

log = logging.getLogger(__name__)

NAMED = 5  # bad files that are told by name
ORDER = ("train", "validation", "test")
Files = list[LabelledFile]


@dataclass(frozen=True)
class Selection:
    """`shares` are what each part that the files do not have is to get of those to learn from; which files go where
    depends on names and `split_seed` alone."""

    kind: Kind
    root: Path
    shares: Mapping[str, float]
    split_seed: int
    on_bad_sample: Literal["fail", "skip"]

    def decoded(
        self, files: Files, bad: Sequence[Bad], decode: Callable[[Sequence[str]], Cached]
    ) -> tuple[Files, Cached]:
        """Part by part, without those that are known to be `bad` and those that `decode` finds to be."""
        files = self._parted(self._without(bad, files))
        found = decode([file.path for file in files])
        if found.bad:
            files = self._parted(self._without(found.bad, files))
            found = decode([file.path for file in files])
        self._warn_of_copies(files, found)
        return files, found

    def refuse(self, named: Sequence[str], total: int) -> None:
        """Files that cannot be used, each with the reason: an end or, with `skip`, a warning."""
        noun = self.kind.noun
        listed = "\n".join(f"  {each}" for each in named[:NAMED])
        more = f"\n  and {len(named) - NAMED} more" if len(named) > NAMED else ""
        if self.on_bad_sample == "fail":
            raise DataError(
                f"{len(named)} of {total} {noun}s cannot be used:\n{listed}{more}\n"
                "Mend them or take them away, or leave them out: data.source.on_bad_sample=skip"
            )
        log.warning(f"left out {len(named)} of {total} {noun}s:\n{listed}{more}")

    def _without(self, bad: Sequence[Bad], files: Files) -> Files:
        if not bad:
            return files
        self.refuse([f"{self.root / files[each.row].path} {each.reason}" for each in bad], len(files))
        rows = {each.row for each in bad}
        kept = [file for row, file in enumerate(files) if row not in rows]
        check_labels_of(kept, self.root, self.kind)
        return kept

    def _parted(self, files: Files) -> Files:
        """Each with its part; part by part."""
        noun, given = self.kind.noun, {file.part for file in files}
        names = sorted({file.label for file in files})
        free = [file for file in files if file.part in (None, "train")]
        shares = {part: share for part, share in self.shares.items() if part not in given}
        cut = by_group(free, shares, self.split_seed) or by_class(free, shares, self.split_seed)
        if min(len(rows) for rows in cut.values()) < 1:
            asked = " and ".join(f"data.source.{part}_share={share:g}" for part, share in shares.items())
            raise ConfigError(f"{asked} of {len(free)} {noun}s leave a part empty; expected such as 0.2 and 0.2")
        parted = [replace(free[row], part=part) for part, rows in cut.items() for row in sorted(rows)]
        parted += [file for file in files if file.part in ("validation", "test")]
        lost = set(names) - {file.label for file in parted if file.part == "train"}
        if lost:
            raise DataError(
                f"after the cut no training {noun} shows {', '.join(sorted(lost))}: add {noun}s of it, or make "
                "data.source.validation_share and data.source.test_share smaller."
            )
        return sorted(parted, key=lambda file: ORDER.index(str(file.part)))

    def _warn_of_copies(self, files: Files, found: Cached) -> None:
        """A sample that is learned from and judged on alike makes the score too good."""
        learned = {name: row for row, name in enumerate(found.hashes) if files[row].part == "train"}
        copies = [row for row, name in enumerate(found.hashes) if files[row].part != "train" and name in learned]
        if copies:
            one, other = files[copies[0]], files[learned[found.hashes[copies[0]]]]
            log.warning(
                f"{len(copies)} {self.kind.noun}s of validation and test stand in the training part, too, such as "
                f"{self.root / one.path} ({one.part}) and {self.root / other.path}: the scores will be too good."
            )


def by_class(files: Files, shares: Mapping[str, float], seed: int) -> dict[str, Indices]:
    """The rows of each part, stratified; a part that would have none has none."""
    _, labels = np.unique([file.label for file in files], return_inverse=True)
    return consecutive(
        stratified_order(labels, seed=seed), {part: share * len(files) for part, share in shares.items()}
    )


def by_group(files: Files, shares: Mapping[str, float], seed: int) -> dict[str, Indices]:
    """The same of whole groups, one at least for each part; empty where files have none."""
    if any(file.group is None for file in files):
        return {}
    names, groups = np.unique([str(file.group) for file in files], return_inverse=True)
    order = stratified_order(np.zeros(len(names), dtype=np.int64), seed=seed)
    counts = {part: max(1.0, share * len(names)) for part, share in shares.items()}
    cut = consecutive(order, counts)
    return {part: np.flatnonzero(np.isin(groups, chosen)).astype(np.int64) for part, chosen in cut.items()}


def consecutive(order: Indices, counts: Mapping[str, float]) -> dict[str, Indices]:
    """Pieces of an order, as many of it as `counts` says, and what is left as `train`."""
    pieces, start = {}, 0
    for part, count in counts.items():
        end = start + max(0, round(count))
        pieces[part], start = order[start:end], end
    return {"train": order[start:], **pieces}


def parts_of(files: Files, inputs: torch.Tensor) -> tuple[tuple[str, ...], TaskKind, tuple[Part, Part, Part]]:
    """The names of the classes, what is asked, and views of the inputs, whose rows are the files part by part."""
    names = tuple(sorted({file.label for file in files}))
    targets = torch.tensor([names.index(file.label) for file in files])
    counts = Counter(file.part for file in files)
    # Consecutive rows: what is mapped from a file stays there.
    sizes = [counts[part] for part in ORDER]
    train, validation, test = map(Part, torch.split(inputs, sizes), torch.split(targets, sizes))
    return names, "binary" if len(names) == 2 else "multiclass", (train, validation, test)


def existing(root: Path | None, *, option: str, noun: str) -> Path:
    """The user's folder. Raises UserError where it is not said, or not there."""
    if root is None:
        raise ConfigError(
            f"data={option} needs to know where your {noun}s are: data.root=/path/to/folder, with one folder "
            "a class in it"
        )
    if not root.is_dir():
        raise DataError(f"data.root={root} {'is no folder' if root.exists() else 'does not exist'}.")
    return root
