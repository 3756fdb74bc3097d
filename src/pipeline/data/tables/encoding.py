"""Encode the columns of a table as inputs of a network. Encoders are fitted to the training rows alone."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.data.dataset import Splits
from pipeline.data.on_disk import Inputs, OnDiskTensor, iterate_blocks
from pipeline.data.tables.columns import Column
from pipeline.errors import DataError

# N rows, F columns of the table, C columns of inputs

log = logging.getLogger(__name__)

OTHER_LEVEL = "any other"
MIN_LEVEL_ROWS = 2  # training rows of a level with a number of its own: a single row says nothing about others


class ColumnEncoder(Protocol):
    """Encodes column number `place` of the table as inputs with these `names`."""

    @property
    def name(self) -> str: ...

    @property
    def place(self) -> int: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def categories(self) -> tuple[tuple[str, ...], ...]:
        """Return, for each of `names`, its categories as in DataSpec."""
        ...

    @property
    def description(self) -> str:
        """Describe the inputs for a person."""
        ...

    def __call__(self, values: Tensor) -> Tensor:
        """Encode (N,) as (N, C)."""
        ...


@dataclass(frozen=True)
class ImputedNumber:
    """A number; missing values are replaced by `median`, and with `marks_gaps` a second input says where they are."""

    name: str
    place: int
    kind: str  # for the description: number, or date, day first
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
        missing = values.isnan()
        imputed = values.masked_fill(missing, self.median)
        return torch.stack([imputed, missing.float()] if self.marks_gaps else [imputed], dim=1)


@dataclass(frozen=True)
class OneHot:
    """A 0 or 1 for each level (number, text) of the training rows; other levels are 0 in all."""

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
    """The levels (number, text) are numbered from 1; 0 is for all others, and for those with too few training rows."""

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
    def level_numbers(self) -> Tensor:
        """Return the numbers of the L levels in the table, (L,), ascending."""
        return torch.tensor([float(number) for number, _ in self.levels])

    def __call__(self, values: Tensor) -> Tensor:
        known = self.level_numbers
        index = torch.searchsorted(known, values.contiguous()).clamp(max=len(known) - 1)
        return torch.where(known[index] == values, index + 1, 0).float()[:, None]


@dataclass(frozen=True)
class TableEncoder:
    """Encodes all columns of a table."""

    columns: tuple[ColumnEncoder, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for column in self.columns for name in column.names)

    @property
    def categories(self) -> tuple[tuple[str, ...], ...]:
        return tuple(names for column in self.columns for names in column.categories)

    def __call__(self, values: Tensor) -> Tensor:
        """Encode (N, F) as (N, C)."""
        return torch.cat([column(values[:, column.place]) for column in self.columns], dim=1)

    def encode(self, inputs: Inputs) -> Inputs:
        """Return encoded inputs: a tensor at once, rows on disk whenever they are read."""
        if isinstance(inputs, OnDiskTensor):
            return replace(inputs, transform=self, row_shape=(len(self.names),))
        return self(inputs)


def encode_table(splits: Splits, *, columns: Sequence[Column], one_hot_up_to: int, where: str) -> Splits:
    """Return the splits with encoded inputs; columns with more than `one_hot_up_to` categories are ordinal.

    Raises DataError where no column is left, or where a column has almost as many categories as rows.
    """
    encoder = fit_encoder(splits.train.inputs, columns, one_hot_up_to, where)
    return replace(
        splits.with_inputs(lambda _, split: encoder.encode(split.inputs)),
        feature_names=encoder.names,
        categories=encoder.categories,
        columns=tuple(column.description for column in encoder.columns),
    )


def fit_encoder(train: Inputs, columns: Sequence[Column], one_hot_up_to: int, where: str) -> TableEncoder:
    """Fit to `train` (N, F) with numbers, NaN where they are missing, and level numbers."""
    encoders: list[ColumnEncoder] = []
    for place, column in enumerate(columns):
        encoder: ColumnEncoder | None
        if column.kind == "category":
            encoder = _fit_category(train, place, column, one_hot_up_to, where)
        else:
            encoder = _fit_number(train, place, column, where)
        if encoder is None:
            log.warning("%s: %s is the same in all training rows; left out", where, column.name)
            continue
        encoders.append(encoder)
    if not encoders:
        raise DataError(f"{where} has no column to learn from: all but the target are left out.")
    return TableEncoder(tuple(encoders))


def _fit_number(train: Inputs, place: int, column: Column, where: str) -> ImputedNumber | None:
    missing, lowest, highest = 0, np.inf, -np.inf
    for block in iterate_blocks(train):
        values = block[:, place]
        known = values[~values.isnan()]
        missing += len(values) - len(known)
        if len(known):
            lowest, highest = min(lowest, float(known.min())), max(highest, float(known.max()))
    if missing == len(train) or (missing == 0 and lowest == highest):
        return None
    median = _median(train, place) if column.missing else 0.0  # perhaps only in other splits
    if missing == 0:
        return ImputedNumber(column.name, place, column.description, median)
    log.warning(
        "%s: %s lacks %d of %d training values; filled with %g", where, column.name, missing, len(train), median
    )
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
    levels = tuple((int(number), column.levels[int(number)]) for number in sorted(rows))
    if len(rows) <= one_hot_up_to:
        return OneHot(column.name, place, levels)
    frequent = tuple((number, text) for number, text in levels if rows[number] >= MIN_LEVEL_ROWS)
    if len(frequent) < len(levels) / 2:
        raise DataError(
            f"{where}: {column.name} has {len(levels):,} different texts in {len(train):,} training rows, of which "
            f"{len(levels) - len(frequent):,} occur once: it identifies rows, and says nothing about others. Leave it "
            f"out with data.source.ignore=[{column.name}]."
        )
    return Ordinal(column.name, place, frequent)
