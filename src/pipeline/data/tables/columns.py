"""A column of a table as numbers: its type is inferred from its cells, dates in many forms included."""

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
# A year of two digits only beside a day and a month of two, or each version number would be a date.
YEAR_LAST = re.compile(
    r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?:,?[ T]+(.+))?|(\d\d)([./-])(\d\d)\7(\d\d)(?:,?[ T]+(.+))?"
)
PIVOT = 69  # of POSIX: 69 to 99 are 1969 to 1999


def days_since_1970(cell: str, order: DateOrder = "day first") -> float:
    """Return days since 1970, in UTC where a zone is given. Raises ValueError for what is not a date in this order."""
    moment = _moment(cell, order)
    moment = moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() / 86_400


def is_ambiguous_date(cell: str) -> bool:
    """Return whether only custom says which number is the day: with points it comes first everywhere."""
    found = YEAR_LAST.fullmatch(cell)
    return found is not None and "." not in (found[2], found[7])


def has_short_year(cell: str) -> bool:
    found = YEAR_LAST.fullmatch(cell)
    return found is not None and found[9] is not None


def _moment(cell: str, order: DateOrder) -> datetime:
    if (found := YEAR_LAST.fullmatch(cell)) is not None:
        one, point, other, year, clock = found.groups()[:5] if found[4] is not None else found.groups()[5:]
        day, month = (one, other) if order == "day first" or point == "." else (other, one)
        whole = int(year) if len(year) == 4 else int(year) + (1900 if int(year) >= PIVOT else 2000)
        return _at(whole, int(month), int(day), clock)
    if (found := YEAR_FIRST.fullmatch(cell)) is not None:
        return _at(int(found[1]), int(found[2]), int(found[3]), found[4])
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
MAX_STRAY_SHARE = 0.1  # a column with no more text than this was meant to be numbers
MAX_CLASSES = 10  # whole numbers with no more values than this are taken for classes
MAX_LEVELS = 10_000  # texts of a column that are told apart
OTHERS: ColumnKind = "category"
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


PARSERS: dict[ColumnKind, Callable[[str, DateOrder], float]] = {
    "number": lambda cell, _: float(cell),
    "date": days_since_1970,
}


@dataclass(frozen=True)
class Column:
    """`levels` are the texts of a category, which are told by their numbers, from 0; those of a key, as many as there
    are, by their hashes. Of its cells `known` say something, `strays` of these are not of its kind, and `missing` say
    nothing. Of dates that end in the year `order` says how they begin; `guess` is one of which nothing tells it,
    and `short_years` one with a year of two digits."""

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
        """Describe the cells for a person."""
        return self.kind if self.order is None else f"{self.kind}, {self.order}"

    def numbers(self, cells: Cells) -> Numbers:
        """(n,) numbers, days since 1970, or numbers of levels; NaN where missing (but a category's missing cells are a
        level of their own), infinity where a cell is none of these."""
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
        read = {cell: np.nan if cell.strip() in MISSING else self._read(cell) for cell in set(cells)}
        return np.array([np.inf if (value := read[cell]) is None else value for cell in cells], dtype=np.float64)

    def reason(self, cell: str) -> str:
        """Return why a cell without a finite number is wrong."""
        cell = cell.strip()
        if self._read(cell) is not None:
            return f"{self.name} is {cell}, expected a finite number"
        return (
            f"{self.name} is {cell!r}, where {self.known - self.strays} of {self.known} cells are a "
            f"{self.description}; for a column of names: data.source.categorical=[{self.name}], to leave it out: "
            f"data.source.ignore=[{self.name}]"
        )

    def _read(self, cell: str) -> float | None:
        return _parse(self.kind, cell, self.order or DATE_ORDERS[0])


class ColumnSurvey:
    """What a column holds, chunk by chunk."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cells = self.known = 0
        self.readable: Counter[ColumnKind] = Counter()
        self.ordered: Counter[DateOrder] = Counter()  # of the dates those that can be read in this order
        self.guess = self.short_years = ""  # the first that could be read in another, or has a year of two digits
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
            found = len(numbers) - int(np.isnan(numbers).sum())
            self.known += found
            self.readable["number"] += found

    def _kind_of(self, cell: str, count: int) -> ColumnKind:
        if _parse("number", cell) is not None:
            return "number"
        orders = [order for order in DATE_ORDERS if _parse("date", cell, order) is not None]
        self.ordered.update(dict.fromkeys(orders, count))
        if orders and is_ambiguous_date(cell) and len(orders) == len(DATE_ORDERS):
            self.guess = self.guess or cell
        if orders and has_short_year(cell):
            self.short_years = self.short_years or cell
        return "date" if orders else OTHERS

    @property
    def order(self) -> DateOrder | None:
        """Return the order in which most dates can be read; None where it makes no difference."""
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
        """Return the column of the kind `wanted`, or of the kind that fits the cells."""
        if wanted is None:
            strays = self.known - self.readable["number"]
            if strays <= MAX_STRAY_SHARE * self.known:
                return Column(self.name, "number", (), self.known, strays, self.cells - self.known)
            if (date := self._date()) is not None:
                return date
        return Column(self.name, wanted or "category", tuple(sorted(self.levels or ())), self.known)

    @property
    def is_class(self) -> bool:
        """Return whether the cells are text, or no more than a few whole numbers."""
        if self.levels is None:
            return False
        read = [
            value for level in self.levels if level != MISSING_LEVEL and (value := _parse("number", level)) is not None
        ]
        return self.column().kind == "category" or (len(read) <= MAX_CLASSES and all(map(float.is_integer, read)))


def _hash_text(text: str) -> int:
    """Return a hash of 48 bits, which a float64 holds."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest())


def _parse(kind: ColumnKind, cell: str, order: DateOrder = DATE_ORDERS[0]) -> float | None:
    try:
        return PARSERS[kind](cell.strip(), order)
    except (ValueError, OverflowError):
        return None


def _parse_numbers(cells: Sequence[str]) -> Numbers:
    """Raises ValueError."""
    return np.fromiter(map(float, cells), dtype=np.float64, count=len(cells))


def cell_levels(cells: Cells) -> list[str]:
    """Return the texts by which cells are told apart, whole numbers without a point."""
    if isinstance(cells, np.ndarray):
        return [MISSING_LEVEL if np.isnan(each) else f"{each:.15g}" for each in cells.tolist()]
    return [MISSING_LEVEL if cell in MISSING else cell for cell in map(str.strip, cells)]
