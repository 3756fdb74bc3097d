"""Build three splits from labelled files: leave out files that cannot be used, split the others, and decode them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from pipeline.data.bad_samples import file_problem, skip_or_fail
from pipeline.data.dataset import SPLIT_NAMES, Split
from pipeline.data.duplicates import warn_of_duplicates
from pipeline.data.files.cache import BadFile, DecodedFiles, Decoder, load_decoded
from pipeline.data.files.labelled_files import FileKind, LabelledFile, check_training_labels, training_labels
from pipeline.data.on_disk import Inputs
from pipeline.data.splitting import Indices, factorize, split_rows
from pipeline.data.targets import classification_task, encode_labels
from pipeline.errors import ConfigError, DataError
from pipeline.spec import TaskKind

Files = list[LabelledFile]


@dataclass(frozen=True)
class SplitBuilder:
    """Splits the files of a folder.

    shares      of the training files, for each split that the folder does not have
    split_seed  with the names, decides which file goes where
    """

    kind: FileKind
    root: Path
    shares: Mapping[str, float]
    split_seed: int
    on_bad_sample: Literal["fail", "skip"]

    def readable(self, files: Files, problems: Sequence[str]) -> tuple[Files, list[str]]:
        """Return the files that can be opened, and the problems with a line for each other file."""
        reasons = {file.path: file_problem(self.root / file.path) for file in files}
        unreadable = [f"{self.root / path} {reason}" for path, reason in reasons.items() if reason is not None]
        return [file for file in files if reasons[file.path] is None], [*problems, *unreadable]

    def labelled(self, files: Files, problems: Sequence[str] = ()) -> tuple[Files, tuple[str, ...]]:
        """Return the files whose labels training files have, and lines about those that are skipped."""
        skipped = self._skip(problems, len(files) + len(problems))
        files, single = self._without_single(files)
        check_training_labels(files, self.root, self.kind)
        classes = training_labels(files)
        unseen = {file.path: set(file.labels) - classes.keys() for file in files}
        lines = [
            f"{self.root / file.path} ({file.split}) is of the class {min(unseen[file.path])}, which no training "
            f"{self.kind.noun} has; those are {', '.join(sorted(classes))}"
            for file in files
            if unseen[file.path]
        ]
        known = [file for file in files if not unseen[file.path]]
        return known, skipped + single + self._skip(lines, len(files))

    def _without_single(self, files: Files) -> tuple[Files, tuple[str, ...]]:
        """Leave out classes with a single training file, where bad samples are skipped."""
        if self.on_bad_sample == "fail":
            return files, ()
        single = {label for label, count in training_labels(files).items() if count == 1}
        alone = [file for file in files if file.split in (None, "train") and single & set(file.labels)]
        lines = [f"{self.root / file.path} is the only training {self.kind.noun} of {file.label}" for file in alone]
        paths = {file.path for file in alone}
        return [file for file in files if file.path not in paths], self._skip(lines, len(files))

    def decoded(self, files: Files, bad: Sequence[BadFile], decoder: Decoder) -> tuple[Files, DecodedFiles]:
        """Decode the files, sorted by split, without those that are `bad` and those that cannot be decoded."""
        readable, skipped = self._without(bad, files)
        decoded = load_decoded(self.root, [file.path for file in readable], decoder)
        usable, more = self._without(decoded.bad, readable)
        files = self._split(usable)
        rows = {file.path: row for row, file in enumerate(readable)}
        decoded = decoded.rows([rows[file.path] for file in files], skipped + more)
        self._warn_of_duplicates(files, decoded)
        return files, decoded

    def _skip(self, lines: Sequence[str], total: int) -> tuple[str, ...]:
        return skip_or_fail(lines, on_bad_sample=self.on_bad_sample, of=total, what=f"{self.kind.noun}s")

    def _without(self, bad: Sequence[BadFile], files: Files) -> tuple[Files, tuple[str, ...]]:
        if not bad:
            return files, ()
        rows = {file.row for file in bad}
        good = [file for row, file in enumerate(files) if row not in rows]
        return self.labelled(good, [f"{self.root / files[file.row].path} {file.reason}" for file in bad])

    def _split(self, files: Files) -> Files:
        """Return the files with their splits, sorted by split."""
        noun, existing = self.kind.noun, {file.split for file in files}
        labels = {label for file in files for label in file.labels}
        free = [file for file in files if file.split in (None, "train")]
        shares = {split: share for split, share in self.shares.items() if split not in existing}
        strata, groups = factorize([file.label for file in free]), group_numbers(free)
        rows = (
            split_rows(strata, shares, seed=self.split_seed, groups=groups, noun=noun)
            if shares
            else {"train": range(len(free))}
        )
        assigned = [replace(free[row], split=split) for split, some in rows.items() for row in sorted(some)]
        assigned += [file for file in files if file.split in ("validation", "test")]
        lost = labels - {label for file in assigned if file.split == "train" for label in file.labels}
        if lost:
            raise DataError(
                f"after the split no training {noun} has the class {', '.join(sorted(lost))}: add {noun}s of it, or "
                "make data.source.validation_share and data.source.test_share smaller."
            )
        return sorted(assigned, key=lambda file: SPLIT_NAMES.index(str(file.split)))

    def _warn_of_duplicates(self, files: Files, decoded: DecodedFiles) -> None:
        rows = {split: [row for row, file in enumerate(files) if file.split == split] for split in SPLIT_NAMES}
        hashes = {split: [decoded.hashes[row].tobytes() for row in some] for split, some in rows.items()}
        warn_of_duplicates(
            hashes, f"{self.kind.noun}s", lambda split, row: f"{self.root / files[rows[split][row]].path} ({split})"
        )


def group_numbers(files: Files) -> Indices | None:
    """Return the number of each file's group (N,), or None where a file has no group."""
    if any(file.group is None for file in files):
        return None
    return factorize([str(file.group) for file in files])


def make_splits(files: Files, inputs: Inputs) -> tuple[tuple[str, ...], TaskKind, tuple[Split, Split, Split]]:
    """Return the class names, the task, and the splits; the rows of `inputs` are the files, sorted by split."""
    names, separator = tuple(sorted({label for file in files for label in file.labels})), files[0].separator
    targets = encode_labels([file.label for file in files], names, separator)
    groups = group_numbers(files)
    whole = Split(inputs, targets, None if groups is None else torch.from_numpy(groups))
    counts = Counter(file.split for file in files)
    rows = torch.split(torch.arange(len(files)), [counts[split] for split in SPLIT_NAMES])
    train, validation, test = (whole.rows(some) for some in rows)
    return names, classification_task(names, separator), (train, validation, test)


def existing_folder(root: Path | None, *, option: str, noun: str) -> Path:
    """Return the user's folder. Raises UserError where it is not given or does not exist."""
    if root is None:
        raise ConfigError(
            f"data={option} needs to know where your {noun}s are: data.root=/path/to/folder, with one folder "
            "a class in it"
        )
    if not root.is_dir():
        raise DataError(f"data.root={root} {'is not a folder' if root.exists() else 'does not exist'}.")
    return root
