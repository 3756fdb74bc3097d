"""The user's own table: CSV, TSV or Parquet files whose columns have names."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.constraints import NonNegativeInt, ProperFraction, Seed
from pipeline.data.bad_samples import OnBadSample, skip_or_fail
from pipeline.data.dataset import Split, Splits
from pipeline.data.duplicates import warn_of_equal_hashes
from pipeline.data.splitting import Indices, split_rows
from pipeline.data.tables import raw_table, table_files
from pipeline.data.tables.columns import Column, Numbers
from pipeline.data.tables.encoding import encode_table
from pipeline.data.tables.raw_table import RawTable, TableReader
from pipeline.data.tables.table_files import check_roles
from pipeline.errors import ConfigError, DataError
from pipeline.spec import Kind, TaskKind

log = logging.getLogger(__name__)

ORDER = ("train", "validation", "test")


class Table:
    """data.root is the file, or the folder in which `train`, `validation` and `test` are, of which the last two may be
    None: then they are cut from the first.

    `target` is the column to predict: text and up to ten whole numbers as classes, else as a number, unless `answer`
    says which. The columns `time` and `group` decide over the split and are no inputs: of `time` the latest rows are
    the test part, the rows of one `group` stay together.
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
        files = self._paths(root)
        for path in files.values():
            table_files.check_table_file(path)
        apart = (self.target, self.answer, self.time, self.group)
        table = raw_table.read_raw_table(TableReader(files, self.categorical, self.ignore, *apart, self.on_bad_sample))
        table = drop_unseen_classes(table, list(files.values()), self.on_bad_sample)
        if self.on_bad_sample == "skip":
            table = drop_single_classes(table, list(files.values()))
        warn_of_guessed_dates((*table.columns, *table.other_columns), files["train"])
        targets, class_names = table_targets(table, self.answer, list(files.values()))
        groups = None if self.group is None else factorize(table.others[:, 1])
        rows = self._rows(table, targets, groups, files)
        whole = Split(table.values, targets, None if groups is None else torch.from_numpy(groups))
        train, validation, test = (whole.rows(torch.from_numpy(rows[part])) for part in ORDER)
        warn_of_equal_hashes({part: table.hashes[rows[part]] for part in ORDER}, "rows")
        check_training_classes(train.targets, class_names, root)
        fit = partial(encode_table, columns=table.columns, one_hot_up_to=self.one_hot_up_to, where=str(files["train"]))
        return Splits(
            root.stem, "table", table_task(class_names), class_names, train, validation, test, skipped=table.skipped,
            is_ordered=self.time is not None, fit=fit,
        )  # fmt: skip

    def _paths(self, root: Path) -> dict[str, Path]:
        if self.files["train"] is None:
            return {"train": root}
        return {part: root / name for part, name in self.files.items() if name is not None}

    def _rows(
        self, table: RawTable, targets: Tensor, groups: Indices | None, files: dict[str, Path]
    ) -> dict[str, Indices]:
        given = {part: np.flatnonzero(table.file_of == number) for number, part in enumerate(files)}
        free = given["train"]
        shares = {part: share for part, share in self.shares.items() if part not in given}
        if not shares:
            return given
        if self.time is not None:
            cut_rows = split_by_time(table.others[free, 1], shares, table.other_columns[1], files["train"])
        else:
            strata = Split(targets, targets).strata[free]
            cut_rows = split_rows(
                strata, shares, seed=self.split_seed, groups=None if groups is None else factorize(groups[free])
            )
        return given | {part: free[some] for part, some in cut_rows.items()}


def warn_of_guessed_dates(columns: Sequence[Column], path: Path) -> None:
    for column in columns:
        if column.guess:
            log.warning(
                f"{path}: {column.name} holds dates such as {column.guess}, and no cell tells the day from the month: "
                f"the {column.order} is taken. To be sure, write them as 2026-01-31"
            )
        if column.short_years:
            log.warning(
                f"{path}: {column.name} holds years of two digits, such as {column.short_years}: 69 to 99 are taken "
                "for 1969 to 1999, others for 2000 to 2068"
            )


def drop_unseen_classes(table: RawTable, files: Sequence[Path], on_bad_sample: OnBadSample) -> RawTable:
    """Drop rows with classes that the training file (the first) does not have."""
    column, labels = table.other_columns[0], table.others[:, 0]
    if column.kind != "category":
        return table
    rows = np.flatnonzero(~np.isin(labels, labels[table.file_of == 0]))
    if not len(rows):
        return table  # as it is: leaving rows out copies all others
    named = [
        f"{row_location(table, row, files)}: {column.name} is {column.levels[int(labels[row])]}, which training never "
        "shows"
        for row in rows.tolist()
    ]
    return table.without(rows, skip_or_fail(named, on_bad_sample=on_bad_sample, of=len(labels), what="rows"))


def drop_single_classes(table: RawTable, files: Sequence[Path]) -> RawTable:
    """Drop classes with a single row."""
    column, labels = table.other_columns[0], table.others[:, 0]
    if column.kind != "category":
        return table
    _, members, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rows = np.flatnonzero(counts[members] == 1)
    named = [
        f"{row_location(table, row, files)}: {column.levels[int(labels[row])]} is the only one of its class"
        for row in rows.tolist()
    ]
    if not named:
        return table
    return table.without(rows, skip_or_fail(named, on_bad_sample="skip", of=len(labels), what="rows"))


def row_location(table: RawTable, row: int, files: Sequence[Path]) -> str:
    return table_files.location_in(files[table.file_of[row]], int(table.places[row]))


def table_targets(table: RawTable, answer: str | None, files: Sequence[Path]) -> tuple[Tensor, tuple[str, ...]]:
    """Return numbers (N, 1) float32 without names, or classes (N,) int64 with their names. Raises DataError."""
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
    unseen = set(range(len(class_names))) - set(np.unique(targets.numpy()).tolist()) if class_names else set()
    if unseen:
        names = ", ".join(class_names[each] for each in sorted(unseen))
        raise DataError(f"{path}: the training part never shows {names}. Add samples, or change the source's split.")


def table_task(class_names: Sequence[str]) -> TaskKind:
    if not class_names:
        return "regression"
    return "binary" if len(class_names) == 2 else "multiclass"


def split_by_time(moments: Numbers, shares: dict[str, float], column: Column, path: Path) -> dict[str, Indices]:
    """Split by time: the latest rows are the test split, those before them validation. Raises DataError for text."""
    if column.kind == "category":
        raise DataError(f"{path}: {column.name} holds text, expected numbers or dates such as 2026-01-31.")
    order = np.argsort(moments, kind="stable").astype(np.int64)
    rows, end = {}, len(order)
    for part, share in shares.items():
        start = end - round(share * len(order))
        rows[part], end = order[start:end], start
    rows["train"] = order[:end]
    if min(map(len, rows.values())) < 1:
        raise DataError(f"{path} leaves a part empty: change the source's split, or add rows.")
    return rows


def factorize(values: Numbers | Indices) -> Indices:
    """Number the distinct values: (N,) the place of each among them."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64)
