"""Build the three splits from a user's files: bad files are left out, the rest is split and decoded."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from pipeline.data.bad_samples import file_problem, skip_or_fail
from pipeline.data.dataset import Split
from pipeline.data.duplicates import warn_of_duplicates
from pipeline.data.files.cache import BadFile, DecodedFiles
from pipeline.data.files.labelled_files import FileKind, LabelledFile, check_training_labels, training_labels
from pipeline.data.on_disk import Inputs
from pipeline.data.splitting import Indices, split_rows
from pipeline.data.targets import classification_task, encode_labels
from pipeline.errors import ConfigError, DataError
from pipeline.spec import TaskKind

ORDER = ("train", "validation", "test")
Files = list[LabelledFile]


@dataclass(frozen=True)
class SplitBuilder:
    """`shares` are what each part that the files do not have is to get of those to learn from; which files go where
    depends on names and `split_seed` alone."""

    kind: FileKind
    root: Path
    shares: Mapping[str, float]
    split_seed: int
    on_bad_sample: Literal["fail", "skip"]

    def labelled(self, files: Files, wrong: Sequence[str] = ()) -> tuple[Files, tuple[str, ...]]:
        """Return the files whose label is in the training split; `wrong` lists what else is left out, a line each."""
        skipped = self._left_out(wrong, len(files) + len(wrong))
        files, more = self._without_single(files)
        check_training_labels(files, self.root, self.kind)
        learned = training_labels(files)
        unknown = {file.path: set(file.labels) - learned.keys() for file in files}
        strange = [
            f"{self.root / file.path} ({file.part}) is of the class {min(unknown[file.path])}, which no training "
            f"{self.kind.noun} shows; those are {', '.join(sorted(learned))}"
            for file in files
            if unknown[file.path]
        ]
        known = [file for file in files if not unknown[file.path]]
        return known, skipped + more + self._left_out(strange, len(files))

    def readable(self, files: Files, wrong: Sequence[str]) -> tuple[Files, list[str]]:
        """Return what can be read, and what is wrong with the others, a line each after `wrong`."""
        why = {file.path: file_problem(self.root / file.path) for file in files}
        told = [f"{self.root / path} {reason}" for path, reason in why.items() if reason is not None]
        return [file for file in files if why[file.path] is None], [*wrong, *told]

    def _without_single(self, files: Files) -> tuple[Files, tuple[str, ...]]:
        """Leave out classes with a single training file, where bad samples are skipped."""
        if self.on_bad_sample == "fail":
            return files, ()
        single = {label for label, count in training_labels(files).items() if count == 1}
        lone = [file for file in files if file.part in (None, "train") and single & set(file.labels)]
        told = [f"{self.root / each.path} is the only {self.kind.noun} of {each.label} to learn from" for each in lone]
        paths = {each.path for each in lone}
        return [file for file in files if file.path not in paths], self._left_out(told, len(files))

    def decoded(
        self, files: Files, bad: Sequence[BadFile], decode: Callable[[Sequence[str]], DecodedFiles]
    ) -> tuple[Files, DecodedFiles]:
        """Decode the files split by split, without those that are `bad` and those that `decode` finds to be."""
        readable, skipped = self._without(bad, files)
        found = decode([file.path for file in readable])
        usable, more = self._without(found.bad, readable)
        parted = self._parted(usable)
        places = {file.path: row for row, file in enumerate(readable)}
        found = found.rows([places[file.path] for file in parted], skipped + more)
        self._warn_of_copies(parted, found)
        return parted, found

    def _left_out(self, named: Sequence[str], total: int) -> tuple[str, ...]:
        return skip_or_fail(named, on_bad_sample=self.on_bad_sample, of=total, what=f"{self.kind.noun}s")

    def _without(self, bad: Sequence[BadFile], files: Files) -> tuple[Files, tuple[str, ...]]:
        if not bad:
            return files, ()
        rows = {each.row for each in bad}
        kept = [file for row, file in enumerate(files) if row not in rows]
        return self.labelled(kept, [f"{self.root / files[each.row].path} {each.reason}" for each in bad])

    def _parted(self, files: Files) -> Files:
        """Return the files with their splits, sorted by split."""
        noun, given = self.kind.noun, {file.part for file in files}
        names = {label for file in files for label in file.labels}
        free = [file for file in files if file.part in (None, "train")]
        shares = {part: share for part, share in self.shares.items() if part not in given}
        labels, groups = _numbered([file.label for file in free]), group_numbers(free)
        rows = (
            split_rows(labels, shares, seed=self.split_seed, groups=groups, noun=noun)
            if shares
            else {"train": range(len(free))}
        )
        parted = [replace(free[row], part=part) for part, some in rows.items() for row in sorted(some)]
        parted += [file for file in files if file.part in ("validation", "test")]
        lost = names - {label for file in parted if file.part == "train" for label in file.labels}
        if lost:
            raise DataError(
                f"after the cut no training {noun} shows {', '.join(sorted(lost))}: add {noun}s of it, or make "
                "data.source.validation_share and data.source.test_share smaller."
            )
        return sorted(parted, key=lambda file: ORDER.index(str(file.part)))

    def _warn_of_copies(self, files: Files, found: DecodedFiles) -> None:
        rows = {part: [row for row, file in enumerate(files) if file.part == part] for part in ORDER}
        hashes = {part: [found.hashes[row].tobytes() for row in some] for part, some in rows.items()}
        warn_of_duplicates(
            hashes, f"{self.kind.noun}s", lambda part, row: f"{self.root / files[rows[part][row]].path} ({part})"
        )


def group_numbers(files: Files) -> Indices | None:
    """Return the number of each file's group; None where files have none."""
    if any(file.group is None for file in files):
        return None
    return _numbered([str(file.group) for file in files])


def _numbered(names: Sequence[str]) -> Indices:
    """Number the distinct names in alphabetical order: (N,)."""
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def make_splits(files: Files, inputs: Inputs) -> tuple[tuple[str, ...], TaskKind, tuple[Split, Split, Split]]:
    """Return the class names, the task, and the splits of inputs whose rows are the files split by split."""
    names, separator = tuple(sorted({label for file in files for label in file.labels})), files[0].separator
    targets = encode_labels([file.label for file in files], names, separator)
    groups = group_numbers(files)
    whole = Split(inputs, targets, None if groups is None else torch.from_numpy(groups))
    counts = Counter(file.part for file in files)
    rows = torch.split(torch.arange(len(files)), [counts[part] for part in ORDER])
    train, validation, test = (whole.rows(each) for each in rows)
    return names, classification_task(names, separator), (train, validation, test)


def existing_folder(root: Path | None, *, option: str, noun: str) -> Path:
    """Return the user's folder. Raises UserError where it is not given or does not exist."""
    if root is None:
        raise ConfigError(
            f"data={option} needs to know where your {noun}s are: data.root=/path/to/folder, with one folder "
            "a class in it"
        )
    if not root.is_dir():
        raise DataError(f"data.root={root} {'is no folder' if root.exists() else 'does not exist'}.")
    return root
