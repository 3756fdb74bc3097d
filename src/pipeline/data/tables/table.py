"""The source for a user's own table: CSV, TSV or Parquet files whose columns have names."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.constraints import NonNegativeInt, ProperFraction, Seed
from pipeline.data.bad_samples import OnBadSample, skip_or_fail
from pipeline.data.dataset import SPLIT_NAMES, Split, Splits
from pipeline.data.duplicates import warn_of_equal_hashes
from pipeline.data.splitting import Indices, factorize, split_rows
from pipeline.data.tables.columns import Column, Numbers
from pipeline.data.tables.encoding import encode_table
from pipeline.data.tables.raw_table import RawTable, TableReader
from pipeline.data.tables.table_files import check_roles, check_table_file, location_in
from pipeline.data.targets import classification_task
from pipeline.errors import ConfigError, DataError
from pipeline.spec import Kind

# N rows of all files

log = logging.getLogger(__name__)


class Table:
    """Rows of one file, `data.root`, or of the files `train`, `validation` and `test` in the folder `data.root`.

    Splits without a file are taken from the training rows by their shares.

    target  the column to predict. Text and up to ten distinct whole numbers are classes, other numbers are numbers;
            `answer` overrides this
    time    a column of which the latest rows are the test split, those before them the validation split
    group   a column whose equal rows stay in one split

    The columns `time` and `group` are not inputs.
    """

    kind: ClassVar[Kind] = "table"

    def __init__(
        self,
        *,
        train: str | None,
        validation: str | None,
        test: str | None,
        target: str | None,
        answer: Literal["number", "class"] | None,
        categorical: list[str],
        one_hot_up_to: NonNegativeInt,
        ignore: list[str],
        time: str | None,
        group: str | None,
        validation_share: ProperFraction,
        test_share: ProperFraction,
        split_seed: Seed,
        on_bad_sample: OnBadSample,
    ) -> None:
        if time is not None and group is not None:
            raise ConfigError("data.source.time and data.source.group are both set; leave one of them out")
        if train is None and (validation is not None or test is not None):
            raise ConfigError("data.source.validation and test name files beside data.source.train, which is not set")
        if target is not None:
            check_roles(target, time, group, ignore)
        self.files = {"train": train, "validation": validation, "test": test}
        self.target, self.answer, self.time, self.group = target, answer, time, group
        self.categorical, self.ignore = tuple(categorical), tuple(ignore)
        self.one_hot_up_to = one_hot_up_to
        self.shares = {"test": test_share, "validation": validation_share}
        self.split_seed = split_seed
        self.on_bad_sample = on_bad_sample

    def load(self, root: Path | None) -> Splits:
        if root is None or self.target is None:
            raise ConfigError(
                "data=table needs data.root and data.source.target: the file and the column to predict, such as "
                "data.root=houses.csv data.source.target=price"
            )
        files = self._files(root)
        for path in files.values():
            check_table_file(path)
        roles = (self.target, self.answer, self.time, self.group)
        table = TableReader(files, self.categorical, self.ignore, *roles, self.on_bad_sample).read()
        paths = list(files.values())
        table = drop_unseen_classes(table, paths, self.on_bad_sample)
        if self.on_bad_sample == "skip":
            table = drop_single_classes(table, paths)
        warn_of_guessed_dates((*table.columns, *table.other_columns), paths[0])
        targets, class_names = table_targets(table, self.answer, paths)
        groups = None if self.group is None else factorize(table.others[:, 1])
        rows = self._rows(table, targets, groups, files)
        whole = Split(table.values, targets, None if groups is None else torch.from_numpy(groups))
        train, validation, test = (whole.rows(torch.from_numpy(rows[split])) for split in SPLIT_NAMES)
        warn_of_equal_hashes({split: table.hashes[rows[split]] for split in SPLIT_NAMES}, "rows")
        check_training_classes(train.targets, class_names, root)
        task = classification_task(class_names, None) if class_names else "regression"
        fit = partial(encode_table, columns=table.columns, one_hot_up_to=self.one_hot_up_to, where=str(paths[0]))
        return Splits(
            root.stem, "table", task, class_names, train, validation, test, skipped=table.skipped,
            is_ordered=self.time is not None, fit=fit,
        )  # fmt: skip

    def _files(self, root: Path) -> dict[str, Path]:
        if self.files["train"] is None:
            return {"train": root}
        return {split: root / name for split, name in self.files.items() if name is not None}

    def _rows(
        self, table: RawTable, targets: Tensor, groups: Indices | None, files: dict[str, Path]
    ) -> dict[str, Indices]:
        """Return {split: its rows}."""
        given = {split: np.flatnonzero(table.file_of == number) for number, split in enumerate(files)}
        free = given["train"]
        shares = {split: share for split, share in self.shares.items() if split not in given}
        if not shares:
            return given
        if self.time is not None:
            rows = split_by_time(table.others[free, 1], shares, table.other_columns[1], files["train"])
        else:
            strata = Split(targets, targets).strata[free]
            free_groups = None if groups is None else factorize(groups[free])
            rows = split_rows(strata, shares, seed=self.split_seed, groups=free_groups)
        return given | {split: free[some] for split, some in rows.items()}


def warn_of_guessed_dates(columns: Sequence[Column], path: Path) -> None:
    for column in columns:
        if column.guess:
            log.warning(
                f"{path}: {column.name} holds dates such as {column.guess}, and no cell tells the day from the month: "
                f"the {column.order} is taken. To be sure, write them as 2026-01-31"
            )
        if column.short_years:
            log.warning(
                f"{path}: {column.name} holds years of two digits, such as {column.short_years}: 69 to 99 are read "
                "as 1969 to 1999, others as 2000 to 2068"
            )


def drop_unseen_classes(table: RawTable, files: Sequence[Path], on_bad_sample: OnBadSample) -> RawTable:
    """Drop rows with classes that the training file (the first) does not have."""
    if table.other_columns[0].kind != "category":
        return table
    labels = table.others[:, 0]
    unseen = ~np.isin(labels, labels[table.file_of == 0])
    return _without_classes(table, unseen, "{column} is {label}, which no training row has", files, on_bad_sample)


def drop_single_classes(table: RawTable, files: Sequence[Path]) -> RawTable:
    """Drop classes with a single row."""
    if table.other_columns[0].kind != "category":
        return table
    _, members, counts = np.unique(table.others[:, 0], return_inverse=True, return_counts=True)
    return _without_classes(table, counts[members] == 1, "{label} is the only one of its class", files, "skip")


def _without_classes(
    table: RawTable, is_bad: npt.NDArray[np.bool_], reason: str, files: Sequence[Path], on_bad_sample: OnBadSample
) -> RawTable:
    """Drop the rows where `is_bad` (N,); `reason` is a template for messages."""
    column, rows = table.other_columns[0], np.flatnonzero(is_bad)
    if not len(rows):
        return table  # itself, because to drop rows copies all others
    lines = [
        f"{row_location(table, row, files)}: "
        + reason.format(column=column.name, label=column.levels[int(table.others[row, 0])])
        for row in rows.tolist()
    ]
    return table.without(rows, skip_or_fail(lines, on_bad_sample=on_bad_sample, of=len(is_bad), what="rows"))


def row_location(table: RawTable, row: int, files: Sequence[Path]) -> str:
    return location_in(files[table.file_of[row]], int(table.places[row]))


def table_targets(table: RawTable, answer: str | None, files: Sequence[Path]) -> tuple[Tensor, tuple[str, ...]]:
    """Return numbers (N, 1) float32 and (), or classes (N,) int64 and their names. Raises DataError."""
    column, values, path = table.other_columns[0], table.others[:, 0], files[0]
    if column.kind != "category":
        return torch.from_numpy(values.astype(np.float32))[:, None], ()
    if answer == "number":
        raise DataError(f"{path}: {column.name} holds text, expected numbers or dates such as 2026-01-31.")
    numbers, labels, counts = np.unique(values, return_inverse=True, return_counts=True)
    names = tuple(column.levels[int(number)] for number in numbers)
    if len(names) < 2:
        raise DataError(f"{path}: the target {column.name} is always {names[0]}, expected two classes or more.")
    if counts.min() < 2:
        row = int((labels == counts.argmin()).argmax())
        raise DataError(
            f"{row_location(table, row, files)}: {names[labels[row]]} is the only one of its class. "
            "Add samples or remove it; is it a number that is to be predicted? data.source.answer=number."
        )
    return torch.from_numpy(labels.astype(np.int64)), names


def check_training_classes(targets: Tensor, class_names: Sequence[str], path: Path) -> None:
    """Raise DataError where a class has no training rows."""
    unseen = set(range(len(class_names))) - set(np.unique(targets.numpy()).tolist()) if class_names else set()
    if unseen:
        names = ", ".join(class_names[label] for label in sorted(unseen))
        raise DataError(f"{path}: no training row is of {names}. Add samples, or change the source's split.")


def split_by_time(moments: Numbers, shares: dict[str, float], column: Column, path: Path) -> dict[str, Indices]:
    """Return {split: its rows}: the latest are the test split, those before them validation. Raises DataError."""
    if column.kind == "category":
        raise DataError(f"{path}: {column.name} holds text, expected numbers or dates such as 2026-01-31.")
    order = np.argsort(moments, kind="stable").astype(np.int64)
    rows, end = {}, len(order)
    for split, share in shares.items():
        start = end - round(share * len(order))
        rows[split], end = order[start:end], start
    rows["train"] = order[:end]
    if min(map(len, rows.values())) < 1:
        raise DataError(f"{path} leaves a split empty: change the source's split, or add rows.")
    return rows
