"""Encode the columns of a table as inputs of a network; everything is fitted to the training rows alone."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.data.dataset import Split, Splits
from pipeline.data.on_disk import Inputs, OnDiskTensor, iterate_blocks
from pipeline.data.tables.columns import Column
from pipeline.errors import DataError

# N rows, F columns of the table, C columns of inputs

log = logging.getLogger(__name__)

OTHER_LEVEL = "any other"
MIN_LEVEL_ROWS = (
    2  # training rows of a name that gets a number: from one alone nothing can be learned that holds for others
)


class ColumnEncoder(Protocol):
    """How column number `place` of the table becomes inputs of these names."""

    @property
    def name(self) -> str: ...

    @property
    def place(self) -> int: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def categories(self) -> tuple[tuple[str, ...], ...]:
        """As in DataSpec, for each of `names`."""
        ...

    @property
    def description(self) -> str:
        """Describe for a person what the column became."""
        ...

    def __call__(self, values: Tensor) -> Tensor:
        """(N,) -> (N, C)"""
        ...


@dataclass(frozen=True)
class ImputedNumber:
    """Gaps are filled with `median`; where `marks_gaps`, a second input says where they are."""

    name: str
    place: int
    kind: str  # as it is told: number, or date, day first
    median: float
    marks_gaps: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, f"{self.name} missing") if self.marks_gaps else (self.name,)

    @property
    def categories(self) -> tuple[tuple[str, ...], ...]:
        return ((),) * len(self.names)

    @property
    def description(self) -> str:
        return f"{self.name} ({self.kind}{', gaps marked' if self.marks_gaps else ''})"

    def __call__(self, values: Tensor) -> Tensor:
        gaps = values.isnan()
        filled = values.masked_fill(gaps, self.median)
        return torch.stack([filled, gaps.float()] if self.marks_gaps else [filled], dim=1)


@dataclass(frozen=True)
class OneHot:
    """A 0 or 1 for each of the levels that the training rows show; 0 in all for others."""

    name: str
    place: int
    levels: tuple[tuple[int, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.name}={text}" for _, text in self.levels)

    @property
    def categories(self) -> tuple[tuple[str, ...], ...]:
        return ((),) * len(self.levels)

    @property
    def description(self) -> str:
        return f"{self.name} ({len(self.levels)} names)"

    def __call__(self, values: Tensor) -> Tensor:
        return (values[:, None] == values.new_tensor([number for number, _ in self.levels])).float()


@dataclass(frozen=True)
class Ordinal:
    """Each of the levels gets a number, from 1; 0 is for those that too few training rows show."""

    name: str
    place: int
    levels: tuple[tuple[int, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def categories(self) -> tuple[tuple[str, ...], ...]:
        return ((OTHER_LEVEL, *(text for _, text in self.levels)),)

    @property
    def description(self) -> str:
        return f"{self.name} ({len(self.levels):,} names, embedded)"

    @cached_property
    def kept(self) -> Tensor:
        """(L,) the table's numbers of the levels, ascending."""
        return torch.tensor([float(number) for number, _ in self.levels])

    def __call__(self, values: Tensor) -> Tensor:
        found = torch.searchsorted(self.kept, values.contiguous()).clamp(max=len(self.kept) - 1)
        return torch.where(self.kept[found] == values, found + 1, 0).float()[:, None]


@dataclass(frozen=True)
class TableEncoder:
    columns: tuple[ColumnEncoder, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for column in self.columns for name in column.names)

    @property
    def categories(self) -> tuple[tuple[str, ...], ...]:
        return tuple(names for column in self.columns for names in column.categories)

    def __call__(self, values: Tensor) -> Tensor:
        """(N, F) -> (N, C)"""
        return torch.cat([column(values[:, column.place]) for column in self.columns], dim=1)

    def of(self, inputs: Inputs) -> Inputs:
        """Encode inputs: a tensor at once, rows on disk whenever they are read."""
        if isinstance(inputs, OnDiskTensor):
            return replace(inputs, change=self, row_shape=(len(self.names),))
        return self(inputs)


def encode_table(parts: Splits, *, columns: Sequence[Column], one_hot_up_to: int, where: str) -> Splits:
    """Return the splits with encoded inputs; categories are numbered where there are more than `one_hot_up_to`.

    Raises DataError where the training rows leave no column, or one of as many names as there are rows.
    """
    encoding = fit_encoder(parts.train.inputs, columns, one_hot_up_to, where)

    def of(part: Split) -> Split:
        return replace(part, inputs=encoding.of(part.inputs))

    train, validation, test = of(parts.train), of(parts.validation), of(parts.test)
    return replace(
        parts,
        train=train,
        validation=validation,
        test=test,
        feature_names=encoding.names,
        categories=encoding.categories,
        columns=tuple(column.description for column in encoding.columns),
        fit=None,
    )


def fit_encoder(train: Inputs, columns: Sequence[Column], one_hot_up_to: int, where: str) -> TableEncoder:
    """`train` (N, F): numbers with NaN where they lack, and numbers of levels."""
    found: list[ColumnEncoder] = []
    for place, column in enumerate(columns):
        each: ColumnEncoder | None
        if column.kind == "category":
            each = _fit_category(train, place, column, one_hot_up_to, where)
        else:
            each = _fit_number(train, place, column, where)
        if each is None:
            log.warning("%s: %s is the same in all training rows; left out", where, column.name)
            continue
        found.append(each)
    if not found:
        raise DataError(f"{where} has no column to learn from: every one but the target is left out.")
    return TableEncoder(tuple(found))


def _fit_number(train: Inputs, place: int, column: Column, where: str) -> ImputedNumber | None:
    gaps, lowest, highest = 0, np.inf, -np.inf
    for block in iterate_blocks(train):
        values = block[:, place]
        known = values[~values.isnan()]
        gaps += len(values) - len(known)
        if len(known):
            lowest, highest = min(lowest, float(known.min())), max(highest, float(known.max()))
    if gaps == len(train) or (gaps == 0 and lowest == highest):
        return None
    median = _median(train, place) if column.missing else 0.0  # the gaps may be in the other parts alone
    if gaps == 0:
        return ImputedNumber(column.name, place, column.description, median)
    log.warning("%s: %s lacks %d of %d training values; filled with %g", where, column.name, gaps, len(train), median)
    return ImputedNumber(column.name, place, column.description, median, marks_gaps=True)


def _median(train: Inputs, place: int) -> float:
    values = torch.cat([block[:, place] for block in iterate_blocks(train)]).numpy()
    return float(np.median(values[~np.isnan(values)].astype(np.float64)))


def _fit_category(train: Inputs, place: int, column: Column, one_hot_up_to: int, where: str) -> OneHot | Ordinal | None:
    rows: Counter[float] = Counter()
    for block in iterate_blocks(train):
        rows.update(block[:, place].tolist())
    if len(rows) < 2:
        return None
    shown = tuple((int(number), column.levels[int(number)]) for number in sorted(rows))
    if len(rows) <= one_hot_up_to:
        return OneHot(column.name, place, shown)
    numbered = tuple((number, text) for number, text in shown if rows[number] >= MIN_LEVEL_ROWS)
    if len(numbered) < len(shown) / 2:
        raise DataError(
            f"{where}: {column.name} has {len(shown):,} different texts in {len(train):,} training rows, of which "
            f"{len(shown) - len(numbered):,} occur once: it names rows, and says nothing of others. Leave it out with "
            f"data.source.ignore=[{column.name}]."
        )
    return Ordinal(column.name, place, numbered)
