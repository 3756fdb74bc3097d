"""A column of a table as numbers: what its cells hold is found out from the cells."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.data.table_files import Cells

# n rows of a chunk

Numbers = npt.NDArray[np.float64]
ColumnKind = Literal["number", "date", "category", "key"]
MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL"})
MISSING_LEVEL = "missing"
STRAY_SHARE = 0.1  # a column with no more text than this was meant to be numbers
MOST_CLASSES = 10  # whole numbers with no more values than this are taken for classes
MOST_DISTINCT = 10_000  # texts of a column that are told apart
OTHERS: ColumnKind = "category"
LARGEST = float(np.finfo(np.float32).max)


def days(cell: str) -> float:
    """Since 1970, of an ISO date with or without a time, whatever its zone. Raises ValueError."""
    return (datetime.fromisoformat(cell).replace(tzinfo=None) - datetime(1970, 1, 1)).total_seconds() / 86_400  # noqa: DTZ001


READERS: dict[ColumnKind, Callable[[str], float]] = {"number": float, "date": days}


@dataclass(frozen=True)
class Column:
    """`levels` are the texts of a category, which are told by their numbers, from 0; those of a key, as many as there
    are, by their hashes. Of its cells `known` say something,
    `strays` of these are not of its kind, and `missing` say nothing."""

    name: str
    kind: ColumnKind
    levels: tuple[str, ...] = ()
    known: int = 0
    strays: int = 0
    missing: int = 0

    def numbers(self, cells: Cells) -> Numbers:
        """(n,) numbers, days since 1970, or numbers of levels; NaN where missing (but a category's missing cells are a
        level of their own), infinity where a cell is none of these."""
        if self.kind == "key":
            return np.array([_hash_of(text) for text in levels_of(cells)], dtype=np.float64)
        if self.kind == "category":
            numbers = {level: float(number) for number, level in enumerate(self.levels)}
            return np.array([numbers[text] for text in levels_of(cells)], dtype=np.float64)
        if isinstance(cells, np.ndarray):
            return cells
        try:
            if self.kind == "number":
                return _all_numbers(cells)
        except ValueError:
            pass
        read = {cell: np.nan if cell.strip() in MISSING else _read(self.kind, cell) for cell in set(cells)}
        return np.array([np.inf if (value := read[cell]) is None else value for cell in cells], dtype=np.float64)

    def reason(self, cell: str) -> str:
        """Why a cell that has no finite number is wrong."""
        cell = cell.strip()
        if _read(self.kind, cell) is not None:
            return f"{self.name} is {cell}, expected a finite number"
        return (
            f"{self.name} is {cell!r}, where {self.known - self.strays} of {self.known} cells are a {self.kind}; for a "
            f"column of names: data.source.categorical=[{self.name}], to leave it out: data.source.ignore=[{self.name}]"
        )


class Survey:
    """What a column holds, chunk by chunk."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cells = self.known = 0
        self.readable: Counter[ColumnKind] = Counter()
        self.levels: Counter[str] | None = Counter()

    def add(self, cells: Cells) -> None:
        self.cells += len(cells)
        if self.levels is not None:
            self.levels.update(levels_of(cells))
            self.levels = self.levels if len(self.levels) <= MOST_DISTINCT else None
        try:
            numbers = cells if isinstance(cells, np.ndarray) else _all_numbers(cells)
        except ValueError:
            for cell, count in Counter(map(str.strip, cells)).items():
                if cell not in MISSING:
                    self.known += count
                    kind = next((kind for kind in READERS if _read(kind, cell) is not None), OTHERS)
                    self.readable[kind] += count
        else:
            found = len(numbers) - int(np.isnan(numbers).sum())
            self.known += found
            self.readable["number"] += found

    def column(self, wanted: ColumnKind | None = None) -> Column:
        """As `wanted`, or as the cells look."""
        for kind in READERS if wanted is None else ():
            strays = self.known - self.readable[kind]
            if strays <= STRAY_SHARE * self.known:
                return Column(self.name, kind, (), self.known, strays, self.cells - self.known)
        return Column(self.name, wanted or "category", tuple(sorted(self.levels or ())), self.known)

    @property
    def is_class(self) -> bool:
        """Text, or no more than a few whole numbers."""
        if self.levels is None:
            return False
        read = [
            value for level in self.levels if level != MISSING_LEVEL and (value := _read("number", level)) is not None
        ]
        return self.column().kind == "category" or (len(read) <= MOST_CLASSES and all(map(float.is_integer, read)))


def _hash_of(text: str) -> int:
    """Of 48 bits: a float64 holds it."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest())


def _read(kind: ColumnKind, cell: str) -> float | None:
    try:
        return READERS[kind](cell.strip())
    except ValueError:
        return None


def _all_numbers(cells: Sequence[str]) -> Numbers:
    """Raises ValueError."""
    return np.fromiter(map(float, cells), dtype=np.float64, count=len(cells))


def levels_of(cells: Cells) -> list[str]:
    """The texts by which cells are told apart, whole numbers without a point."""
    if isinstance(cells, np.ndarray):
        return [MISSING_LEVEL if np.isnan(each) else f"{each:.15g}" for each in cells.tolist()]
    return [MISSING_LEVEL if cell in MISSING else cell for cell in map(str.strip, cells)]
