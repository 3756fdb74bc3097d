"""The rows of a CSV, TSV or Parquet file, some at a time: a table may be larger than memory."""

import csv
import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from pipeline.data.bad_samples import file_problem
from pipeline.data.delimited import NOT_UTF8, csv_reader, delimiter_of, describe_csv_error, is_utf8, peek_first_line
from pipeline.errors import ConfigError, DataError, missing_package_error
from pipeline.system.memory_limit import available_memory_bytes

# n rows of a chunk

Cells = Sequence[str] | npt.NDArray[np.float64]  # as they stand in the file; numbers of Parquet as such, or NaN
SUFFIXES = (".csv", ".tsv", ".parquet")
CELLS_AT_A_TIME = 1_000_000
VALUE_BYTES = 4
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*")
MAX_COLUMNS = 100_000
SAMPLE_BYTES = 1 << 20  # from which the number of lines is guessed


@dataclass(frozen=True)
class TableChunk:
    """`cells` by column, (n,) each; `places` (n,) where in the file they stand; `bad`: the place of a row that is none,
    and why."""

    cells: dict[str, Cells]
    places: Sequence[int]
    bad: list[tuple[int, str]] = field(default_factory=list)


def check_table_file(path: Path) -> None:
    """Raises DataError for what is no file, or no table by its name."""
    why = file_problem(path)
    if why is not None or path.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"{path} {why or 'is no table'}: expected a file that ends in {', '.join(SUFFIXES[:-1])} or "
            f"{SUFFIXES[-1]}, such as data.root=houses.csv."
        )


def location_in(path: Path, number: int) -> str:
    return f"{path}, {'row' if path.suffix.lower() == '.parquet' else 'line'} {number}"


def column_names(path: Path) -> list[str]:
    """Return the names of the columns, without reading a row. Raises DataError."""
    check_table_file(path)
    if path.suffix.lower() == ".parquet":
        with _open_parquet(path) as file:
            names = list(file.schema_arrow.names)
    else:
        with _open_text(path) as file:
            names = _header(csv_reader(file, delimiter=delimiter_of(path, peek_first_line(file, path))), path)
    check_column_names(names, path)
    return names


def read_chunks(path: Path) -> Iterator[TableChunk]:
    """Iterate over chunks in the file's order; the first has all columns even if it has no row. Raises DataError."""
    if path.suffix.lower() == ".parquet":
        yield from _read_parquet(path)
        return
    with _open_text(path) as file:
        delimiter = delimiter_of(path, peek_first_line(file, path))
        reader = csv_reader(file, delimiter=delimiter)
        rows = map(replace_decimal_commas, reader) if delimiter == ";" else reader
        try:
            yield from _read_delimited(((reader.line_num, row) for row in rows), path)
        except csv.Error as problem:
            raise DataError(f"{path}, line {reader.line_num}: {describe_csv_error(problem)}") from problem


@contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    """Bytes that are no UTF-8 are kept as surrogates, so that the rows with them can be named. Raises DataError."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield file
    except OSError as problem:
        raise DataError(f"{path} cannot be read as a table: {problem.strerror or problem}.") from problem


def replace_decimal_commas(row: list[str]) -> list[str]:
    """Replace decimal commas by points, where semicolons separate the cells: 1,5 is 1.5."""
    return [cell.replace(",", ".") if DECIMAL_COMMA.fullmatch(cell) else cell for cell in row]


def estimate_rows(path: Path) -> int:
    """Return the number of rows: estimated from the size of a CSV, exact for Parquet."""
    if path.suffix.lower() == ".parquet":
        with _open_parquet(path) as file:
            return int(file.metadata.num_rows)
    size = path.stat().st_size
    with path.open("rb") as opened:
        sample = opened.read(SAMPLE_BYTES)
    return round(size * sample.count(b"\n") / max(1, len(sample)))


def estimate_value_bytes(path: Path) -> int:
    """Estimate the bytes of the values, which Parquet packs."""
    if path.suffix.lower() == ".parquet":
        with _open_parquet(path) as file:
            return VALUE_BYTES * int(file.metadata.num_rows) * int(file.metadata.num_columns)
    return path.stat().st_size


def _read_delimited(numbered: Iterator[tuple[int, list[str]]], path: Path) -> Iterator[TableChunk]:
    header = _header((row for _, row in numbered), path)
    check_column_names(header, path)
    most = max(1, CELLS_AT_A_TIME // len(header))
    rows: list[list[str]] = []
    places: list[int] = []
    bad: list[tuple[int, str]] = []
    is_first = True
    for line, row in numbered:
        if not row:
            continue
        if not is_utf8("".join(row)):
            bad.append((line, NOT_UTF8))
            continue
        if len(row) != len(header):
            bad.append((line, f"has {len(row)} cells, expected {len(header)} as in line 1"))
            continue
        rows.append(row)
        places.append(line)
        if len(rows) == most:
            yield _chunk(header, rows, places, bad)
            rows, places, bad, is_first = [], [], [], False
    if rows or bad or is_first:
        yield _chunk(header, rows, places, bad)


def _header(rows: Iterator[list[str]], path: Path) -> list[str]:
    try:
        header = [name.strip() for name in next(rows, [])]
    except csv.Error as problem:
        raise DataError(f"{path}, line 1: {describe_csv_error(problem)}") from problem
    if not is_utf8("".join(header)):
        raise DataError(f"{path}: the first line {NOT_UTF8}.")
    return header


def _chunk(header: list[str], rows: list[list[str]], places: list[int], bad: list[tuple[int, str]]) -> TableChunk:
    columns = zip(*rows, strict=True) if rows else ([] for _ in header)
    return TableChunk(dict(zip(header, columns, strict=True)), places, bad)


def check_column_names(header: list[str], path: Path) -> None:
    if not header:
        raise DataError(f"{path} is empty: expected a line with the columns' names, and rows below it.")
    if len(header) > MAX_COLUMNS:
        raise DataError(
            f"{path} has {len(header):,} columns, expected {MAX_COLUMNS:,} at most: a row is a sample, and the first "
            "line names what is known of it."
        )
    twice = [name for name, count in Counter(header).items() if count > 1 or not name]
    if twice:
        raise DataError(
            f"{path}: the first line names {', '.join(map(repr, twice))} twice or not at all. Give each column a name "
            "of its own."
        )


def _read_parquet(path: Path) -> Iterator[TableChunk]:
    with _open_parquet(path) as file:
        names = list(file.schema_arrow.names)
        check_column_names(names, path)
        check_row_groups(file.metadata, path)
        yield TableChunk({name: [] for name in names}, [])
        first = 1
        for batch in file.iter_batches(batch_size=max(1, CELLS_AT_A_TIME // len(names))):
            cells = {name: _arrow_cells(column) for name, column in zip(names, batch.columns, strict=True)}
            yield TableChunk(cells, range(first, first + batch.num_rows))
            first += batch.num_rows


def check_row_groups(about: Any, path: Path) -> None:
    """Raises DataError for one that memory cannot hold: they are read as a whole."""
    largest = max((about.row_group(each).total_byte_size for each in range(about.num_row_groups)), default=0)
    if largest > (free := available_memory_bytes()):
        raise DataError(
            f"{path} has a row group of {largest / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free. Write it "
            "with smaller ones, such as pyarrow.parquet.write_table(table, path, row_group_size=100_000)."
        )


def _arrow_cells(column: Any) -> Cells:
    """Return the cells of a pyarrow array."""
    from pyarrow import types

    kind = column.type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        found: npt.NDArray[np.float64] = column.cast("float64").to_numpy(zero_copy_only=False)
        return found
    return ["" if each is None else _text(each) for each in column.to_pylist()]


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _open_parquet(path: Path) -> Any:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise missing_package_error("Parquet", "pyarrow") from error
    try:
        return ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is no Parquet file that can be read: {error}") from error


def check_columns_exist(path: Path, names: Sequence[str], asked: Sequence[str]) -> None:
    """Raises DataError for a column that is not there."""
    for name in asked:
        if name not in names:
            raise DataError(f"{path} has no column {name}{_available_columns(name, names)}")


def check_roles(target: str, time: str | None, group: str | None, ignored: Sequence[str]) -> None:
    """Raises ConfigError for a column that is to be two things."""
    taken = {"target": target, "time": time, "group": group}
    taken = {role: name for role, name in taken.items() if name is not None}
    for role, other in combinations(taken, 2):
        if taken[role] == taken[other]:
            raise ConfigError(
                f"data.source.{role} and data.source.{other} are both {taken[other]}, and a column is one of them: "
                f"choose another, or leave out data.source.{other}"
            )
    for role, name in taken.items():
        if name in ignored:
            raise ConfigError(
                f"data.source.ignore=[{name}] is data.source.{role}, which is no input anyway: leave out one of them"
            )


def _available_columns(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    meant = f"; did you mean {near[0]}?" if near else "."
    return f"{meant} It has {', '.join(names[:20])}{' and more' if len(names) > 20 else ''}."
