"""Dates as spreadsheets write them: read one way in a whole column, told, and wrong ones named with their line."""

import logging
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.data.tables.test_table import load

from pipeline.data.tables.columns import DateOrder, days_since_1970
from pipeline.errors import DataError

# What a column holds besides 40 dates written in the same way, how these are written, and what it is taken for.
COLUMNS: dict[str, tuple[list[str], str, str]] = {
    "points": ([], "{day:02}.{month:02}.{year}", "built (date)"),
    "points, of days that could be months": (["03.04.2026"] * 9, "{month:02}.{month:02}.{year}", "built (date)"),
    "strokes, the day first": (["31/01/2026"], "{month:02}/{month:02}/{year}", "built (date, day first)"),
    "strokes, the month first": (["01/31/2026"], "{month:02}/{month:02}/{year}", "built (date, month first)"),
    "no zeros": (["5/31/2026"], "{month}/{month}/{year}", "built (date, month first)"),
    "hyphens": (["31-01-2026"], "{month:02}-{month:02}-{year}", "built (date, day first)"),
    "a time": (["31.01.2026 9:05"], "{day:02}.{month:02}.{year} 23:59:59", "built (date)"),
    "a time after a comma": ([], "{day:02}/{month:02}/{year}, 10:30", "built (date, day first)"),
    "years of two digits": ([], "{day:02}.{month:02}.26", "built (date)"),
    "the year first": ([], "{year}/{month:02}/{day:02}", "built (date)"),
    "ISO": ([], "{year}-{month:02}-{day:02}", "built (date)"),
    "ISO and points": (["2026-01-31"] * 9, "{day:02}.{month:02}.{year}", "built (date)"),
    "ISO, a time and its zone": ([], "{year}-{month:02}-{day:02}T10:00+02:00", "built (date)"),
    "ISO weeks": ([], "{year}-W{month:02}-5", "built (date)"),
    "names": (["31.01.2026"], "model {day}", "built (some names)"),
    "versions": (["1.10.12"], "1.{month}.{day}", "built (some names)"),
}


def written(pattern: str, count: int = 40) -> list[str]:
    return [pattern.format(year=2026, month=row % 12 + 1, day=row % 28 + 1) for row in range(count)]


@pytest.mark.parametrize("case", COLUMNS)
def test_a_column_is_read_one_way(case: str, tmp_path: Path) -> None:
    others, pattern, taken = COLUMNS[case]
    cells = [*written(pattern), *others]
    rows = [f'{row},"{cell}",{row * 1.5}' for row, cell in enumerate(cells)]
    parts = load(tmp_path, rows, header="size,built,price", validation_share=0.1, test_share=0.1)
    assert parts.columns[0] == "size (number)"
    found = re.sub(r"\d+", "some", parts.columns[1])
    assert found == taken


@pytest.mark.parametrize(
    "cell, order, expected",
    [
        ("31.01.2026", "day first", "2026-01-31"),
        ("03.04.2026", "month first", "2026-04-03"),  # points leave no choice
        ("03/04/2026", "day first", "2026-04-03"),
        ("03/04/2026", "month first", "2026-03-04"),
        ("3-4-2026 7:05", "day first", "2026-04-03T07:05"),
        ("31.12.68", "day first", "2068-12-31"),
        ("31.12.69", "day first", "1969-12-31"),
        ("2026-01-31T23:00-02:00", "day first", "2026-02-01T01:00"),
        ("29.02.2024", "day first", "2024-02-29"),
    ],
)
def test_a_date_is_the_day_that_is_meant(cell: str, order: DateOrder, expected: str) -> None:
    meant = datetime.fromisoformat(expected).replace(tzinfo=UTC)
    assert days_since_1970(cell, order) == pytest.approx(
        (meant - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() / 86_400
    )


@pytest.mark.parametrize(
    "cell", ["31.02.2026", "32.01.2026", "29.02.2026", "1.2.3", "1.10.12", "31.01/2026", "31.01.2026 25:00", "01.2026"]
)
def test_what_is_no_date_is_none(cell: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # whatever words Python has for it
        days_since_1970(cell)


def test_the_way_that_nothing_proves_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [f"{row},{cell},{row * 1.5}" for row, cell in enumerate(written("{month:02}/{month:02}/{year}"))]
    with caplog.at_level(logging.WARNING):
        parts = load(tmp_path, [*rows, "9,03/04/2026,1"], header="size,built,price")
    assert parts.columns[1] == "built (date, day first)"
    assert "own.csv: built holds dates such as 01/01/2026, and no cell tells the day from the month" in caplog.text


def test_years_of_two_digits_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [f"{row},{cell},{row * 1.5}" for row, cell in enumerate(written("{day:02}.{month:02}.26"))]
    load(tmp_path, rows, header="size,built,price")
    assert "built holds years of two digits, such as 01.01.26: 69 to 99 are read as 1969 to 1999" in caplog.text


@pytest.mark.parametrize("cell", ["13/31/2026", "31/02/2026", "12/31/2026", "yesterday"])
def test_a_row_that_cannot_be_read_so_is_named_with_its_line(cell: str, tmp_path: Path) -> None:
    rows = [f"{row},{each},{row * 1.5}" for row, each in enumerate(written("{day:02}/{month:02}/{year}"))]
    with pytest.raises(
        DataError, match=rf"line 42: built is '{cell}', where 40 of 41 cells are a date, day first; to read"
    ):
        load(tmp_path, [*rows, f"1,{cell},2"], header="size,built,price")


def test_the_latest_rows_are_found_among_dates_with_the_day_first(tmp_path: Path) -> None:
    rows = [f"{row},{row % 28 + 1:02}.{row % 5 + 1:02}.2026,{row % 5 + 1}.5" for row in range(40)]
    parts = load(tmp_path, rows, header="size,built,price", time="built")
    assert parts.train.targets.max() <= parts.validation.targets.min()
    assert parts.validation.targets.max() <= parts.test.targets.min()
