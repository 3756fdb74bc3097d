"""The rows of a CSV, TSV or Parquet file, in chunks: a table may be larger than memory."""

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

Cells = Sequence[str] | npt.NDArray[np.float64]  # text as in the file, or numbers from Parquet, with NaN
SUFFIXES = (".csv", ".tsv", ".parquet")
CELLS_PER_CHUNK = 1_000_000
VALUE_BYTES = 4
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*")
MAX_COLUMNS = 100_000
SAMPLE_BYTES = 1 << 20  # from which the number of lines is estimated


@dataclass(frozen=True)
class TableChunk:
    """n consecutive rows.

    cells   {column: (n,)}
    places  (n,) the line or row in the file
    bad     (place, reason) of rows that cannot be read
    """

    cells: dict[str, Cells]
    places: Sequence[int]
    bad: list[tuple[int, str]] = field(default_factory=list)


def check_table_file(path: Path) -> None:
    """Raise DataError where the path is not a file, or its name does not end as a table's."""
    problem = file_problem(path)
    if problem is not None or path.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"{path} {problem or 'is not a table'}: expected a file that ends in {', '.join(SUFFIXES[:-1])} or "
            f"{SUFFIXES[-1]}, such as data.root=houses.csv."
        )


def location_in(path: Path, number: int) -> str:
    return f"{path}, {'row' if path.suffix.lower() == '.parquet' else 'line'} {number}"


def column_names(path: Path) -> list[str]:
    """Return the names of the columns without reading a row. Raises DataError."""
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
    """Iterate over chunks in the file's order; there is at least one, perhaps without rows. Raises DataError."""
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
    """Open a file; bytes that are not UTF-8 become surrogates, so messages can name their rows. Raises DataError."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield file
    except OSError as problem:
        raise DataError(f"{path} cannot be read as a table: {problem.strerror or problem}.") from problem


def replace_decimal_commas(row: list[str]) -> list[str]:
    """Replace decimal commas by points, where semicolons separate the cells: 1,5 is 1.5."""
    return [cell.replace(",", ".") if DECIMAL_COMMA.fullmatch(cell) else cell for cell in row]


def estimate_rows(path: Path) -> int:
    """Return the number of rows: an estimate from the size of a CSV, exact for Parquet."""
    if path.suffix.lower() == ".parquet":
        with _open_parquet(path) as file:
            return int(file.metadata.num_rows)
    size = path.stat().st_size
    with path.open("rb") as opened:
        sample = opened.read(SAMPLE_BYTES)
    return round(size * sample.count(b"\n") / max(1, len(sample)))


def estimate_value_bytes(path: Path) -> int:
    """Return about how many bytes the values take in memory."""
    if path.suffix.lower() == ".parquet":
        with _open_parquet(path) as file:
            return VALUE_BYTES * int(file.metadata.num_rows) * int(file.metadata.num_columns)
    return path.stat().st_size


def _read_delimited(lines: Iterator[tuple[int, list[str]]], path: Path) -> Iterator[TableChunk]:
    header = _header((row for _, row in lines), path)
    check_column_names(header, path)
    rows_per_chunk = max(1, CELLS_PER_CHUNK // len(header))
    rows: list[list[str]] = []
    places: list[int] = []
    bad: list[tuple[int, str]] = []
    is_first = True
    for line, row in lines:
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
        if len(rows) == rows_per_chunk:
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
            "line names its columns."
        )
    wrong = [name for name, count in Counter(header).items() if count > 1 or not name]
    if wrong:
        raise DataError(
            f"{path}: the first line names {', '.join(map(repr, wrong))} twice or not at all. Give each column a name "
            "of its own."
        )


def _read_parquet(path: Path) -> Iterator[TableChunk]:
    with _open_parquet(path) as file:
        names = list(file.schema_arrow.names)
        check_column_names(names, path)
        check_row_groups(file.metadata, path)
        yield TableChunk({name: [] for name in names}, [])
        first = 1
        for batch in file.iter_batches(batch_size=max(1, CELLS_PER_CHUNK // len(names))):
            cells = {name: _arrow_cells(column) for name, column in zip(names, batch.columns, strict=True)}
            yield TableChunk(cells, range(first, first + batch.num_rows))
            first += batch.num_rows


def check_row_groups(about: Any, path: Path) -> None:
    """Raise DataError for a row group that memory cannot hold, because each is read as a whole."""
    largest = max((about.row_group(group).total_byte_size for group in range(about.num_row_groups)), default=0)
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
        numbers: npt.NDArray[np.float64] = column.cast("float64").to_numpy(zero_copy_only=False)
        return numbers
    return ["" if value is None else _text(value) for value in column.to_pylist()]


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
        raise DataError(f"{path} is not a Parquet file that can be read: {error}") from error


def check_columns_exist(path: Path, names: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise DataError for a column that the file does not have."""
    for name in wanted:
        if name not in names:
            raise DataError(f"{path} has no column {name}{_available_columns(name, names)}")


def check_roles(target: str, time: str | None, group: str | None, ignored: Sequence[str]) -> None:
    """Raise ConfigError for a column with two roles."""
    roles = {"target": target, "time": time, "group": group}
    roles = {role: name for role, name in roles.items() if name is not None}
    for role, other in combinations(roles, 2):
        if roles[role] == roles[other]:
            raise ConfigError(
                f"data.source.{role} and data.source.{other} are both {roles[other]}, and a column is one of them: "
                f"choose another, or leave out data.source.{other}"
            )
    for role, name in roles.items():
        if name in ignored:
            raise ConfigError(
                f"data.source.ignore=[{name}] is data.source.{role}, which is not an input anyway: leave out one of "
                "them"
            )


def _available_columns(name: str, names: Sequence[str]) -> str:
    similar = difflib.get_close_matches(name, names, n=1)
    suggestion = f"; did you mean {similar[0]}?" if similar else "."
    return f"{suggestion} It has {', '.join(names[:20])}{' and more' if len(names) > 20 else ''}."
