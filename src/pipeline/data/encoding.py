"""The columns of a table as inputs of a network: what is fitted to them is fitted to the training rows alone."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pipeline.data.columns import Column
from pipeline.data.source import Part, Parts
from pipeline.data.stored import Inputs, Stored, blocks
from pipeline.errors import DataError

log = logging.getLogger(__name__)

# N rows, F columns of the table, C columns of inputs

MOST_LEVELS = 100  # each is a column of its own


@dataclass(frozen=True)
class Encoded:
    """How the table's column number `place` becomes inputs: a number with its gaps filled with `median` and, where
    `marks_gaps`, a second one that says where they are; or a 0 or 1 for each of `levels`."""

    name: str
    place: int
    median: float = 0.0
    marks_gaps: bool = False
    levels: tuple[tuple[int, str], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        if self.levels:
            return tuple(f"{self.name}={text}" for _, text in self.levels)
        return (self.name, f"{self.name} missing") if self.marks_gaps else (self.name,)

    def __call__(self, values: Tensor) -> Tensor:
        """(N,) -> (N, C); a level that the training rows never show is 0 in all."""
        if self.levels:
            return (values[:, None] == values.new_tensor([number for number, _ in self.levels])).float()
        gaps = values.isnan()
        filled = values.masked_fill(gaps, self.median)
        return torch.stack([filled, gaps.float()] if self.marks_gaps else [filled], dim=1)


@dataclass(frozen=True)
class Encoding:
    columns: tuple[Encoded, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for column in self.columns for name in column.names)

    def __call__(self, values: Tensor) -> Tensor:
        """(N, F) -> (N, C)"""
        return torch.cat([column(values[:, column.place]) for column in self.columns], dim=1)

    def of(self, inputs: Inputs) -> Inputs:
        """At once, or of rows in a file whenever they are read."""
        if isinstance(inputs, Stored):
            return replace(inputs, change=self, row_shape=(len(self.names),))
        return self(inputs)


def encoded(parts: Parts, *, columns: Sequence[Column], where: str) -> Parts:
    """The table's values as inputs. Raises DataError where the training rows leave no column, or one of many levels."""
    encoding = fit(parts.train.inputs, columns, where)

    def of(part: Part) -> Part:
        return replace(part, inputs=encoding.of(part.inputs))

    train, validation, test = of(parts.train), of(parts.validation), of(parts.test)
    names = encoding.names
    return replace(parts, train=train, validation=validation, test=test, feature_names=names, fit=None)


def fit(train: Inputs, columns: Sequence[Column], where: str) -> Encoding:
    """`train` (N, F): numbers with NaN where they lack, and numbers of levels."""
    found = []
    for place, column in enumerate(columns):
        if column.kind == "category":
            each = _levels(train, place, column, where)
        else:
            each = _filled(train, place, column, where)
        if each is None:
            log.warning("%s: %s is the same in all training rows; left out", where, column.name)
            continue
        log.info("%s: %s, %d inputs", column.name, column.kind, len(each.names))
        found.append(each)
    if not found:
        raise DataError(f"{where} has no column to learn from: every one but the target is left out.")
    return Encoding(tuple(found))


def _filled(train: Inputs, place: int, column: Column, where: str) -> Encoded | None:
    gaps, lowest, highest = 0, np.inf, -np.inf
    for block in blocks(train):
        values = block[:, place]
        known = values[~values.isnan()]
        gaps += len(values) - len(known)
        if len(known):
            lowest, highest = min(lowest, float(known.min())), max(highest, float(known.max()))
    if gaps == len(train) or (gaps == 0 and lowest == highest):
        return None
    median = _median(train, place) if column.missing else 0.0  # the gaps may be in the other parts alone
    if gaps == 0:
        return Encoded(column.name, place, median)
    log.warning("%s: %s lacks %d of %d training values; filled with %g", where, column.name, gaps, len(train), median)
    return Encoded(column.name, place, median, marks_gaps=True)


def _median(train: Inputs, place: int) -> float:
    values = torch.cat([block[:, place] for block in blocks(train)]).numpy()
    return float(np.median(values[~np.isnan(values)].astype(np.float64)))


def _levels(train: Inputs, place: int, column: Column, where: str) -> Encoded | None:
    shown: set[float] = set()
    for block in blocks(train):
        shown.update(np.unique(block[:, place].numpy()).tolist())
    if len(shown) > MOST_LEVELS:
        raise DataError(
            f"{where}: {column.name} has {len(shown)} different texts, expected at most {MOST_LEVELS}. "
            f"Leave it out with data.source.ignore=[{column.name}]."
        )
    if len(shown) < 2:
        return None
    return Encoded(column.name, place, levels=tuple((int(each), column.levels[int(each)]) for each in sorted(shown)))
