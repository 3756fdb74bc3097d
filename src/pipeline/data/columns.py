"""A text column of a table to columns of numbers: what it holds is inferred, what is fitted is the training part's."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.data.splits import Indices
from pipeline.errors import DataError

log = logging.getLogger(__name__)

# N rows, C columns of numbers

Numbers = npt.NDArray[np.float64]
ColumnKind = Literal["number", "date", "category"]
MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL"})
STRAY_SHARE = 0.1  # a column with no more text than this was meant to be numbers
MOST_LEVELS = 100  # each is a column of its own


def days(cell: str) -> float:
    """Since 1970, of an ISO date with or without a time, whatever its zone. Raises ValueError."""
    return (datetime.fromisoformat(cell).replace(tzinfo=None) - datetime(1970, 1, 1)).total_seconds() / 86_400  # noqa: DTZ001


READERS: dict[ColumnKind, Callable[[str], float]] = {"number": float, "date": days}


@dataclass(frozen=True)
class Column:
    """`cells` (N,) as they stand in the file, `lines` (N,) where in it, `where` the file's name."""

    name: str
    cells: Sequence[str]
    lines: Sequence[int]
    where: str

    @property
    def kind(self) -> ColumnKind:
        """Raises DataError for a few texts among numbers."""
        known = [(cell, line) for cell, line in zip(self.cells, self.lines, strict=True) if cell not in MISSING]
        for kind, read in READERS.items():
            strays = [(cell, line) for cell, line in known if not _reads(read, cell)]
            if not strays:
                return kind
            if len(strays) <= STRAY_SHARE * len(known):
                cell, line = strays[0]
                raise DataError(
                    f"{self.where}, line {line}: {self.name} is {cell!r}, where {len(known) - len(strays)} of "
                    f"{len(known)} cells are a {kind}. Correct it, leave the cell empty, or set "
                    f"data.source.categorical=[{self.name}] or data.source.ignore=[{self.name}]."
                )
        return "category"

    def numbers(self) -> Numbers:
        """(N,) numbers, or days since 1970 for dates; NaN where missing. Raises DataError for infinity and text."""
        read = READERS.get(self.kind)
        if read is None:
            raise DataError(f"{self.where}: {self.name} holds text, expected numbers or dates such as 2026-01-31.")
        found = np.array([np.nan if cell in MISSING else read(cell) for cell in self.cells], dtype=np.float64)
        wrong = np.abs(found) > np.finfo(np.float32).max
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"{self.where}, line {self.lines[row]}: {self.name} is {self.cells[row]}, expected a finite number. "
                "Correct it, or leave the cell empty."
            )
        return found


def encode(column: Column, kind: ColumnKind, train: Indices) -> tuple[Numbers, tuple[str, ...]]:
    """(N, C) without a gap, and C names; C is 0 for a column that is constant in the rows `train`."""
    encoded, names = _levels(column, train) if kind == "category" else _filled(column, train)
    if len(names) == 0 or np.ptp(encoded[train], axis=0).max() == 0:
        log.warning("%s: %s is the same in all training rows; left out", column.where, column.name)
        return encoded[:, :0], ()
    return encoded, names


def _filled(column: Column, train: Indices) -> tuple[Numbers, tuple[str, ...]]:
    """Numbers with gaps filled by the training rows' median; a second column says where, if they have gaps."""
    found = column.numbers()
    gaps = np.isnan(found)
    if gaps[train].all():
        return found[:, None][:, :0], ()
    if not gaps.any():
        return found[:, None], (column.name,)
    median = float(np.median(found[train][~gaps[train]]))
    log.warning("%s: %s lacks %d values; filled with %g", column.where, column.name, gaps.sum(), median)
    filled = np.where(gaps, median, found)[:, None]
    if not gaps[train].any():
        return filled, (column.name,)
    return np.hstack([filled, gaps[:, None]]), (column.name, f"{column.name} missing")


def _levels(column: Column, train: Indices) -> tuple[Numbers, tuple[str, ...]]:
    """A column of 0 and 1 for each level of the training rows; one they never show is 0 in all."""
    cells = np.array(["missing" if cell in MISSING else cell for cell in column.cells])
    levels = np.unique(cells[train])
    if len(levels) > MOST_LEVELS:
        raise DataError(
            f"{column.where}: {column.name} has {len(levels)} different texts, expected at most {MOST_LEVELS}. "
            f"Leave it out with data.source.ignore=[{column.name}]."
        )
    return (cells[:, None] == levels).astype(np.float64), tuple(f"{column.name}={level}" for level in levels)


def _reads(read: Callable[[str], float], cell: str) -> bool:
    try:
        read(cell)
    except ValueError:
        return False
    return True
