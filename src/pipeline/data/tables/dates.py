"""Dates as they are written: 2026-01-31, 31.01.2026, 31/1/2026 or 1/31/2026, each with a time or without."""

import re
from datetime import UTC, datetime, time
from typing import Literal

Order = Literal["day first", "month first"]
ORDERS: tuple[Order, ...] = ("day first", "month first")
YEAR_FIRST = re.compile(r"(\d{4})[/.](\d{1,2})[/.](\d{1,2})(?:[ T]+(.+))?")
# A year of two digits only beside a day and a month of two, or each version number would be a date.
YEAR_LAST = re.compile(
    r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?:,?[ T]+(.+))?|(\d\d)([./-])(\d\d)\7(\d\d)(?:,?[ T]+(.+))?"
)
PIVOT = 69  # of POSIX: 69 to 99 are 1969 to 1999


def days(cell: str, order: Order = "day first") -> float:
    """Since 1970, in UTC where the zone is said. Raises ValueError for what is no date, or none in this order."""
    moment = _moment(cell, order)
    moment = moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() / 86_400


def needs_order(cell: str) -> bool:
    """Whether only custom says which number is the day: with points it comes first everywhere."""
    found = YEAR_LAST.fullmatch(cell)
    return found is not None and "." not in (found[2], found[7])


def has_short_year(cell: str) -> bool:
    found = YEAR_LAST.fullmatch(cell)
    return found is not None and found[9] is not None


def _moment(cell: str, order: Order) -> datetime:
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
