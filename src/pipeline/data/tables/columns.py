"""The columns of a table: their types, inferred from the cells, and their cells as numbers; dates in many forms."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.data.tables.table_files import Cells

DateOrder = Literal["day first", "month first"]
DATE_ORDERS: tuple[DateOrder, ...] = ("day first", "month first")
YEAR_FIRST = re.compile(r"(\d{4})[/.](\d{1,2})[/.](\d{1,2})(?:[ T]+(.+))?")
# A year of two digits needs a day and a month of two; otherwise each version number would be a date.
YEAR_LAST = re.compile(
    r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?:,?[ T]+(.+))?|(\d\d)([./-])(\d\d)\7(\d\d)(?:,?[ T]+(.+))?"
)
PIVOT = 69  # as in POSIX: 69 to 99 are 1969 to 1999


def days_since_1970(cell: str, order: DateOrder = "day first") -> float:
    """Return days since 1970, in UTC where the zone is given. Raises ValueError for text that is not such a date."""
    moment = _moment(cell, order)
    moment = moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() / 86_400


def is_ambiguous_date(cell: str) -> bool:
    """Return whether a date does not show which number is the day; with points the day comes first everywhere."""
    match = YEAR_LAST.fullmatch(cell)
    return match is not None and "." not in (match[2], match[7])


def has_short_year(cell: str) -> bool:
    match = YEAR_LAST.fullmatch(cell)
    return match is not None and match[9] is not None


def _moment(cell: str, order: DateOrder) -> datetime:
    if (match := YEAR_LAST.fullmatch(cell)) is not None:
        first, mark, second, year, clock = match.groups()[:5] if match[4] is not None else match.groups()[5:]
        day, month = (first, second) if order == "day first" or mark == "." else (second, first)
        full_year = int(year) if len(year) == 4 else int(year) + (1900 if int(year) >= PIVOT else 2000)
        return _at(full_year, int(month), int(day), clock)
    if (match := YEAR_FIRST.fullmatch(cell)) is not None:
        return _at(int(match[1]), int(match[2]), int(match[3]), match[4])
    return datetime.fromisoformat(cell)


def _at(year: int, month: int, day: int, clock: str | None) -> datetime:
    return datetime.combine(datetime(year, month, day).date(), time() if clock is None else _time(clock))  # noqa: DTZ001


def _time(clock: str) -> time:
    hour, _, rest = clock.partition(":")
    return time.fromisoformat(f"{hour:0>2}:{rest}" if rest else clock)


# n rows of a chunk

Numbers = npt.NDArray[np.float64]
ColumnKind = Literal["number", "date", "category", "key"]
MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL"})
MISSING_LEVEL = "missing"
MAX_STRAY_SHARE = 0.1  # of text in a column that was meant to be numbers
MAX_CLASSES = 10  # distinct whole numbers of a target that are taken for classes
MAX_LEVELS = 10_000  # distinct texts of a category
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


PARSERS: dict[ColumnKind, Callable[[str, DateOrder], float]] = {
    "number": lambda cell, _: float(cell),
    "date": days_since_1970,
}


@dataclass(frozen=True)
class Column:
    """A column and how its cells become numbers: a category's texts by their number in `levels`, a key's by a hash.

    known        cells that are not missing
    strays       known cells that are not of this kind
    missing      missing cells
    order        of day and month in dates that end with the year
    guess        a date that does not show this order
    short_years  a date with a year of two digits
    """

    name: str
    kind: ColumnKind
    levels: tuple[str, ...] = ()
    known: int = 0
    strays: int = 0
    missing: int = 0
    order: DateOrder | None = None
    guess: str = ""
    short_years: str = ""

    @property
    def description(self) -> str:
        return self.kind if self.order is None else f"{self.kind}, {self.order}"

    def numbers(self, cells: Cells) -> Numbers:
        """Return (n,): numbers, days since 1970, level numbers or hashes; NaN where missing, infinity where invalid.

        The missing cells of a category are a level of their own.
        """
        if self.kind == "key":
            return np.array([_hash_text(text) for text in cell_levels(cells)], dtype=np.float64)
        if self.kind == "category":
            numbers = {level: float(number) for number, level in enumerate(self.levels)}
            return np.array([numbers[text] for text in cell_levels(cells)], dtype=np.float64)
        if isinstance(cells, np.ndarray):
            return cells
        try:
            if self.kind == "number":
                return _parse_numbers(cells)
        except ValueError:
            pass
        values = {cell: np.nan if cell.strip() in MISSING else self._read(cell) for cell in set(cells)}
        return np.array([np.inf if (value := values[cell]) is None else value for cell in cells], dtype=np.float64)

    def reason(self, cell: str) -> str:
        """Return why a cell that is not a finite number is wrong."""
        cell = cell.strip()
        if self._read(cell) is not None:
            return f"{self.name} is {cell}, expected a finite number"
        return (
            f"{self.name} is {cell!r}, where {self.known - self.strays} of {self.known} cells are a "
            f"{self.description}; to read the column as names: data.source.categorical=[{self.name}], to leave it out: "
            f"data.source.ignore=[{self.name}]"
        )

    def _read(self, cell: str) -> float | None:
        return _parse(self.kind, cell, self.order or DATE_ORDERS[0])


class ColumnSurvey:
    """Collects what a column contains, chunk by chunk."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cells = self.known = 0
        self.readable: Counter[ColumnKind] = Counter()
        self.ordered: Counter[DateOrder] = Counter()  # dates that can be read in this order
        self.guess = self.short_years = ""  # the first such date, as in Column
        self.levels: Counter[str] | None = Counter()

    def add(self, cells: Cells) -> None:
        self.cells += len(cells)
        if self.levels is not None:
            self.levels.update(cell_levels(cells))
            self.levels = self.levels if len(self.levels) <= MAX_LEVELS else None
        try:
            numbers = cells if isinstance(cells, np.ndarray) else _parse_numbers(cells)
        except ValueError:
            for cell, count in Counter(map(str.strip, cells)).items():
                if cell not in MISSING:
                    self.known += count
                    self.readable[self._kind_of(cell, count)] += count
        else:
            known = len(numbers) - int(np.isnan(numbers).sum())
            self.known += known
            self.readable["number"] += known

    def _kind_of(self, cell: str, count: int) -> ColumnKind:
        if _parse("number", cell) is not None:
            return "number"
        orders = [order for order in DATE_ORDERS if _parse("date", cell, order) is not None]
        self.ordered.update(dict.fromkeys(orders, count))
        if orders and is_ambiguous_date(cell) and len(orders) == len(DATE_ORDERS):
            self.guess = self.guess or cell
        if orders and has_short_year(cell):
            self.short_years = self.short_years or cell
        return "date" if orders else "category"

    @property
    def order(self) -> DateOrder | None:
        """Return the order in which most dates can be read, or None where it makes no difference."""
        if not self.guess and self.ordered[DATE_ORDERS[0]] == self.ordered[DATE_ORDERS[1]]:
            return None
        return max(DATE_ORDERS, key=self.ordered.__getitem__)

    def _date(self) -> Column | None:
        order = self.order
        strays = self.known - (self.readable["date"] if order is None else self.ordered[order])
        if strays > MAX_STRAY_SHARE * self.known:
            return None
        guess = self.guess if self.ordered[DATE_ORDERS[0]] == self.ordered[DATE_ORDERS[1]] else ""
        missing = self.cells - self.known
        return Column(self.name, "date", (), self.known, strays, missing, order, guess, self.short_years)

    def column(self, wanted: ColumnKind | None = None) -> Column:
        """Return the column, of the kind `wanted` or of the kind that fits the cells."""
        if wanted is None:
            strays = self.known - self.readable["number"]
            if strays <= MAX_STRAY_SHARE * self.known:
                return Column(self.name, "number", (), self.known, strays, self.cells - self.known)
            if (date := self._date()) is not None:
                return date
        return Column(self.name, wanted or "category", tuple(sorted(self.levels or ())), self.known)

    @property
    def is_class(self) -> bool:
        """Return whether the cells are classes: text, or only a few distinct whole numbers."""
        if self.levels is None:
            return False
        numbers = [
            value for level in self.levels if level != MISSING_LEVEL and (value := _parse("number", level)) is not None
        ]
        return self.column().kind == "category" or (len(numbers) <= MAX_CLASSES and all(map(float.is_integer, numbers)))


def _hash_text(text: str) -> int:
    """Return a hash of 48 bits, which float64 represents exactly."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest())


def _parse(kind: ColumnKind, cell: str, order: DateOrder = DATE_ORDERS[0]) -> float | None:
    try:
        return PARSERS[kind](cell.strip(), order)
    except (ValueError, OverflowError):
        return None


def _parse_numbers(cells: Sequence[str]) -> Numbers:
    """Return the numbers of all cells. Raises ValueError."""
    return np.fromiter(map(float, cells), dtype=np.float64, count=len(cells))


def cell_levels(cells: Cells) -> list[str]:
    """Return the level of each cell: its text, with whole numbers as integers."""
    if isinstance(cells, np.ndarray):
        return [MISSING_LEVEL if np.isnan(number) else f"{number:.15g}" for number in cells.tolist()]
    return [MISSING_LEVEL if cell in MISSING else cell for cell in map(str.strip, cells)]
