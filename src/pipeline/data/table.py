"""The user's own table: a CSV or TSV file whose first line names the columns."""

import csv
import difflib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import torch
from torch import Tensor

from pipeline.data.columns import MISSING, Column, ColumnKind, encode
from pipeline.data.source import Cut, Part, Parts
from pipeline.data.splits import Indices, stratified_order
from pipeline.errors import ConfigError, DataError
from pipeline.spec import TaskKind

log = logging.getLogger(__name__)

MEMORY_PER_BYTE = 16  # a short cell of a file is a str of some sixty bytes while the columns are made
MOST_CLASSES = 10  # whole numbers with no more values than this are taken for classes

Rows = tuple[Indices, Indices, Indices]  # of the training, validation and test part


class Table:
    """`target` is the column to predict: text and up to ten whole numbers as classes, else as a number, unless
    `answer` says which. The columns `time` and `group` decide over the split and are no inputs: of `time` the
    latest rows are the test part, the rows of one `group` stay together."""

    def __init__(
        self,
        *,
        target: str | None,
        answer: Literal["number", "class"] | None,
        categorical: list[str],
        ignore: list[str],
        time: str | None,
        group: str | None,
        validation_share: float,
        test_share: float,
        split_seed: int,
    ) -> None:
        if time is not None and group is not None:
            raise ConfigError("data.source.time and data.source.group are both set; leave one of them out")
        self.target, self.answer, self.time, self.group = target, answer, time, group
        self.categorical, self.ignore = tuple(categorical), tuple(ignore)
        self.cut = Cut(validation_share, test_share, split_seed)

    def load(self, root: Path | None) -> Parts:
        if root is None or self.target is None:
            raise ConfigError(
                "data=table needs data.root and data.source.target: the file and the column to predict, such as "
                "data.root=houses.csv data.source.target=price"
            )
        columns = read_columns(root)
        for name in (self.target, self.time, self.group, *self.categorical, *self.ignore):
            if name is not None and name not in columns:
                raise DataError(f"{root} has no column {name}{_listing(name, list(columns))}")
        targets, class_names = read_targets(columns[self.target], self.answer)
        rows = self._split(columns, targets)
        if min(map(len, rows)) == 0:
            raise DataError(f"{root} leaves a part empty: change the source's split, or add rows.")
        self._warn_of_leaks(columns, rows)
        inputs, names = self._inputs(columns, rows[0], root)
        train, validation, test = (Part(inputs[row], targets[row]) for row in map(torch.from_numpy, rows))
        check_training_shows(train.targets, class_names, root)
        return Parts(root.stem, "table", task_of(class_names), class_names, train, validation, test, names)

    def _inputs(self, columns: dict[str, Column], train: Indices, root: Path) -> tuple[Tensor, tuple[str, ...]]:
        apart = {self.target, self.time, self.group, *self.ignore}
        features = [column for name, column in columns.items() if name not in apart]
        kinds: list[ColumnKind] = ["category" if each.name in self.categorical else each.kind for each in features]
        encoded = [encode(column, kind, train) for column, kind in zip(features, kinds, strict=True)]
        names = tuple(name for _, each in encoded for name in each)
        if not names:
            raise DataError(f"{root} has no column to learn from besides {self.target}: every other one is left out.")
        for column, kind, (_, each) in zip(features, kinds, encoded, strict=True):
            log.info("%s: %s, %d inputs", column.name, kind, len(each))
        return torch.from_numpy(np.hstack([each for each, _ in encoded]).astype(np.float32)), names

    def _split(self, columns: dict[str, Column], targets: Tensor) -> Rows:
        if self.time is not None:
            return by_time(columns[self.time], self.cut)
        if self.group is not None:
            return by_group(columns[self.group], self.cut)
        rows = self.cut.rows(Part(targets, targets).strata)
        return rows["train"], rows["validation"], rows["test"]

    def _warn_of_leaks(self, columns: dict[str, Column], rows: Rows) -> None:
        kept = [column.cells for name, column in columns.items() if name not in self.ignore]
        train, *others = ([tuple(cells[row] for cells in kept) for row in part] for part in rows)
        seen = set(train)
        leaks = sum(row in seen for part in others for row in part)
        if leaks:
            log.warning("%d rows of the validation and test parts are in the training part too", leaks)


def read_columns(path: Path) -> dict[str, Column]:
    """By name, in the file's order. Raises DataError, with the line, for what is no table in UTF-8."""
    if not path.is_file() or path.suffix.lower() not in (".csv", ".tsv"):
        raise DataError(f"{path} is no table: expected a file that ends in .csv or .tsv, such as data.root=houses.csv.")
    size, free = path.stat().st_size, psutil.virtual_memory().available
    if size * MEMORY_PER_BYTE > free:
        raise DataError(
            f"{path} has {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free: reading it takes "
            f"{MEMORY_PER_BYTE} times its size. Take fewer rows or columns, or a machine with more memory."
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter_of(path, first), strict=True)
            return _columns(((reader.line_num, row) for row in reader), path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error.reason}). Convert it: iconv -f latin1 -t utf-8.") from error
    except (csv.Error, OSError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}. Correct the file.") from error


def delimiter_of(path: Path, header: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    return ";" if header.count(";") > header.count(",") else ","


def _columns(numbered: Iterator[tuple[int, list[str]]], path: Path) -> dict[str, Column]:
    header = [name.strip() for name in next(numbered, (1, []))[1]]
    if len(set(header)) != len(header) or "" in header:
        raise DataError(f"{path}: the first line names columns twice or not at all. Give each a name of its own.")
    rows, lines = [], []
    for line, row in numbered:
        if not row:
            continue
        if len(row) != len(header):
            raise DataError(f"{path}, line {line}: {len(row)} cells, expected {len(header)} as in line 1.")
        rows.append([cell.strip() for cell in row])
        lines.append(line)
    if not rows:
        raise DataError(f"{path} is empty: expected a line with the columns' names, and rows below it.")
    return {
        name: Column(name, cells, lines, str(path)) for name, cells in zip(header, zip(*rows, strict=True), strict=True)
    }


def read_targets(column: Column, answer: str | None) -> tuple[Tensor, tuple[str, ...]]:
    """Numbers (N, 1) float32 without names, or classes (N,) int64 with theirs. Raises DataError."""
    for cell, line in zip(column.cells, column.lines, strict=True):
        if cell in MISSING:
            raise DataError(f"{column.where}, line {line}: the target {column.name} is missing. Remove the row.")
    if answer == "number" or (answer is None and not _is_class(column)):
        return torch.from_numpy(column.numbers().astype(np.float32))[:, None], ()
    names, labels, counts = np.unique(np.array(column.cells), return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise DataError(f"{column.where}: the target {column.name} is always {names[0]}, expected two classes or more.")
    if counts.min() < 2:
        row = int((labels == counts.argmin()).argmax())
        raise DataError(
            f"{column.where}, line {column.lines[row]}: {names[labels[row]]} is the only one of its class. Add samples "
            "or remove it; is it a number that is to be predicted? data.source.answer=number."
        )
    return torch.from_numpy(labels.astype(np.int64)), tuple(names.tolist())


def _is_class(column: Column) -> bool:
    if column.kind == "category":
        return True
    values = set(column.numbers().tolist())
    return len(values) <= MOST_CLASSES and all(value.is_integer() for value in values)


def check_training_shows(targets: Tensor, class_names: Sequence[str], path: Path) -> None:
    unseen = set(range(len(class_names))) - set(targets.flatten().tolist())
    if unseen:
        names = ", ".join(class_names[each] for each in sorted(unseen))
        raise DataError(f"{path}: the training part never shows {names}. Add samples, or change the source's split.")


def task_of(class_names: Sequence[str]) -> TaskKind:
    if not class_names:
        return "regression"
    return "binary" if len(class_names) == 2 else "multiclass"


def by_time(column: Column, cut: Cut) -> Rows:
    """The latest rows are the test part, those before them the validation part."""
    moments = column.numbers()
    if np.isnan(moments).any():
        line = column.lines[int(np.isnan(moments).argmax())]
        raise DataError(f"{column.where}, line {line}: {column.name} is missing, by which the rows are split.")
    order = np.argsort(moments, kind="stable").astype(np.int64)
    test = len(order) - round(cut.test_share * len(order))
    validation = test - round(cut.validation_share * len(order))
    return order[:validation], order[validation:test], order[test:]


def by_group(column: Column, cut: Cut) -> Rows:
    """Whole groups, in an order that follows from the seed, until a part has its share of the groups."""
    _, groups = np.unique(np.array(column.cells), return_inverse=True)
    order = stratified_order(np.zeros(groups.max() + 1, dtype=np.int64), seed=cut.seed)
    test, validation = (max(1, round(share * len(order))) for share in (cut.test_share, cut.validation_share))
    chosen = order[test + validation :], order[test : test + validation], order[:test]
    train, held, last = (np.flatnonzero(np.isin(groups, each)).astype(np.int64) for each in chosen)
    return train, held, last


def _listing(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    meant = f"; did you mean {near[0]}?" if near else "."
    return f"{meant} It has {', '.join(names[:20])}{' and more' if len(names) > 20 else ''}."
