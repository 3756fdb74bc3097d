"""The rows of a CSV, TSV or JSON lines file: sentences with labels, and rows that cannot be used."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from pipeline.data.bad_samples import file_problem
from pipeline.data.delimited import NOT_UTF8, csv_reader, delimiter_of, describe_csv_error, is_utf8, peek_first_line
from pipeline.errors import ConfigError, DataError
from pipeline.system.memory_limit import available_memory_bytes

ColumnReference = str | int
MEMORY_PER_BYTE = 3  # of the file: for its text and its rows


@dataclass(frozen=True)
class TextSample:
    """A sentence and its label, with the place where it was read."""

    file: Path
    line: int  # from 1, as editors count
    text: str
    label: str


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and why."""

    file: Path
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.line} {self.reason}"


def read_text_rows(
    path: Path, *, text: ColumnReference, label: ColumnReference, header: bool, may_be_unlabelled: bool = False
) -> list[TextSample | BadRow]:
    """Return all rows. Raises DataError for a file that cannot be read, ConfigError for a missing column."""
    try:
        problem = file_problem(path) or _memory_problem(path)
        content = b"" if problem is not None else path.read_bytes()
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    if problem is not None:
        raise DataError(
            f"{path} {problem}. Say where your files are with data.root=FOLDER, and what they "
            "are called with data.source.train, validation and test"
        )
    # Bytes that are not UTF-8 become surrogates, so that messages can name their row.
    lines = io.StringIO(content.decode("utf-8-sig", errors="surrogateescape"), newline="")
    if path.suffix in (".jsonl", ".ndjson", ".json"):
        rows = _read_json_lines(path, lines, str(text), str(label))
    elif path.suffix in (".csv", ".tsv", ".txt"):
        rows = _read_delimited_text(path, lines, text, label, header)
    else:
        raise DataError(f"{path} is of an unknown kind; expected .csv, .tsv (or .txt), or .jsonl (or .ndjson, .json).")
    return [row if may_be_unlabelled else _check_label(row) for row in rows]


def _memory_problem(path: Path) -> str | None:
    size, free = path.stat().st_size, available_memory_bytes()
    if MEMORY_PER_BYTE * size <= free:
        return None
    return (
        f"has {size / 1e9:.1f} GB, which takes {MEMORY_PER_BYTE} times as much memory, and {free / 1e9:.1f} GB are free"
    )


def check_text_columns(path: Path, *, text: ColumnReference, label: ColumnReference, header: bool) -> None:
    """Check the first row alone. Raises the errors of `read_text_rows`."""
    if text == label:
        raise ConfigError(
            f"data.source.text and data.source.label are both {text}, and a column is one of them: choose another"
        )
    if (problem := file_problem(path)) is None and path.suffix in (".csv", ".tsv", ".txt"):
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            next(_read_delimited_text(path, file, text, label, header), None)
    elif problem is not None or path.suffix not in (".jsonl", ".ndjson", ".json"):
        read_text_rows(path, text=text, label=label, header=header)  # which raises the error


def _read_delimited_text(
    path: Path, lines: TextIO, text: ColumnReference, label: ColumnReference, header: bool
) -> Iterator[TextSample | BadRow]:
    # In tables with tabs a quotation mark is part of the sentence.
    is_csv = path.suffix == ".csv"
    first = peek_first_line(lines, path)
    if header and not is_utf8(first):
        raise DataError(f"{path}: the first line {NOT_UTF8}.")
    delimiter = delimiter_of(path, first if header else "") if is_csv else "\t"
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if is_csv else csv.QUOTE_NONE
    rows = csv_reader(lines, delimiter=delimiter, quoting=quoting)
    columns: list[str] | None = None
    indices: tuple[int, int] | None = None
    try:
        for cells in rows:
            if not cells:
                continue
            if columns is None or indices is None:
                columns = cells if header else [str(number) for number in range(len(cells))]
                indices = _column_index(path, "text", text, columns), _column_index(path, "label", label, columns)
                if header:
                    continue
            if len(cells) != len(columns):
                yield BadRow(path, rows.line_num, f"has {len(cells)} columns, expected {len(columns)}")
            else:
                yield _check_row(path, rows.line_num, cells[indices[0]], cells[indices[1]])
    except csv.Error as error:
        raise DataError(f"{path}, row {rows.line_num}: {describe_csv_error(error)}") from error


def _column_index(path: Path, option: str, column: ColumnReference, columns: list[str]) -> int:
    if isinstance(column, int):
        if 0 <= column < len(columns):
            return column
        has = f"{len(columns)} columns: expected 0 to {len(columns) - 1}"
    else:
        if column in columns:
            return columns.index(column)
        has = f"the columns {', '.join(columns)}"
    raise ConfigError(
        f"data.source.{option}={column}: {path} has {has}. Choose one of them; data.source.header says whether the "
        "first row names them"
    )


def _read_json_lines(path: Path, lines: io.StringIO, text: str, label: str) -> Iterator[TextSample | BadRow]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError:
            yield BadRow(path, number, "is not JSON")
            continue
        if not isinstance(values, dict) or text not in values:
            yield BadRow(path, number, f"is not an object with {text!r} (data.source.text)")
        else:
            yield _check_json_row(path, number, values[text], values.get(label))


def _check_json_row(path: Path, line: int, text: Any, label: Any) -> TextSample | BadRow:
    if not isinstance(text, str | None):
        return BadRow(path, line, f"has the text {text!r}, expected one in quotation marks")
    if isinstance(label, list | dict):
        return BadRow(
            path,
            line,
            f"""has the label {label!r}, expected one; for several: "a;b" and 'data.source.label_separator=";"'""",
        )
    return _check_row(path, line, text or "", "" if label is None else str(label))


def _check_row(path: Path, line: int, text: str, label: str) -> TextSample | BadRow:
    if not is_utf8(text + label):
        return BadRow(path, line, NOT_UTF8)
    if not any(character.isprintable() and character != " " for character in text):  # only marks without width
        return BadRow(path, line, "has an empty text")
    return TextSample(path, line, text.strip(), label.strip())


def _check_label(row: TextSample | BadRow) -> TextSample | BadRow:
    if isinstance(row, TextSample) and not row.label:
        return BadRow(row.file, row.line, "has no label")
    return row
