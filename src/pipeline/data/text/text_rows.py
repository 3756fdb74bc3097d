"""The rows of a CSV, TSV or JSON lines file: a sentence and its label, or what is wrong with it."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from pipeline.data.bad_samples import why_no_file
from pipeline.data.delimited import NOT_UNICODE, csv_rows, delimiter_of, first_line, in_words, is_unicode
from pipeline.errors import ConfigError, DataError
from pipeline.system.memory_limit import free_bytes

Column = str | int
MEMORY_A_BYTE = 3  # of the file: its text, and the rows that are cut from it


@dataclass(frozen=True)
class Sample:
    file: Path
    line: int  # from 1, as editors count
    text: str
    label: str


@dataclass(frozen=True)
class Wrong:
    file: Path
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.line} {self.reason}"


def read(
    path: Path, *, text: Column, label: Column, header: bool, may_be_unlabelled: bool = False
) -> list[Sample | Wrong]:
    """Return all rows. Raises DataError for a file that cannot be read, ConfigError for a missing column."""
    try:
        why = why_no_file(path) or _why_too_large(path)
        content = b"" if why is not None else path.read_bytes()
    except OSError as problem:
        why = f"cannot be read: {problem.strerror}"
    if why is not None:
        raise DataError(
            f"{path} {why}. Say where your files are with data.root=FOLDER, and what they "
            "are called with data.source.train, validation and test"
        )
    # Bytes that are no UTF-8 are kept as surrogates, so that the one row with them can be named.
    lines = io.StringIO(content.decode("utf-8-sig", errors="surrogateescape"), newline="")
    if path.suffix in (".jsonl", ".ndjson", ".json"):
        rows = _json_lines(path, lines, str(text), str(label))
    elif path.suffix in (".csv", ".tsv", ".txt"):
        rows = _delimited(path, lines, text, label, header)
    else:
        raise DataError(f"{path} is of no known kind; expected .csv, .tsv (or .txt), or .jsonl (or .ndjson, .json).")
    return [row if may_be_unlabelled else _labelled(row) for row in rows]


def _why_too_large(path: Path) -> str | None:
    size, free = path.stat().st_size, free_bytes()
    if MEMORY_A_BYTE * size <= free:
        return None
    return (
        f"has {size / 1e9:.1f} GB, which takes {MEMORY_A_BYTE} times as much memory, and {free / 1e9:.1f} GB are free"
    )


def check_columns(path: Path, *, text: Column, label: Column, header: bool) -> None:
    """Check the first row alone. Raises as `read` does."""
    if text == label:
        raise ConfigError(
            f"data.source.text and data.source.label are both {text}, and a column is one of them: choose another"
        )
    if (why := why_no_file(path)) is None and path.suffix in (".csv", ".tsv", ".txt"):
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            next(_delimited(path, file, text, label, header), None)
    elif why is not None or path.suffix not in (".jsonl", ".ndjson", ".json"):
        read(path, text=text, label=label, header=header)  # which will not do it


def _delimited(path: Path, lines: TextIO, text: Column, label: Column, header: bool) -> Iterator[Sample | Wrong]:
    # In tables with tabs a quotation mark is what it is: part of the sentence.
    is_csv = path.suffix == ".csv"
    first = first_line(lines, path)
    if header and not is_unicode(first):
        raise DataError(f"{path}: the first line {NOT_UNICODE}.")
    delimiter = delimiter_of(path, first if header else "") if is_csv else "\t"
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if is_csv else csv.QUOTE_NONE
    rows = csv_rows(lines, delimiter=delimiter, quoting=quoting)
    columns: list[str] | None = None
    place: tuple[int, int] | None = None
    try:
        for cells in rows:
            if not cells:
                continue
            if columns is None or place is None:
                columns = cells if header else [str(number) for number in range(len(cells))]
                place = _column(path, "text", text, columns), _column(path, "label", label, columns)
                if header:
                    continue
            if len(cells) != len(columns):
                yield Wrong(path, rows.line_num, f"has {len(cells)} columns, expected {len(columns)}")
            else:
                yield _checked(path, rows.line_num, cells[place[0]], cells[place[1]])
    except csv.Error as problem:
        raise DataError(f"{path}, row {rows.line_num}: {in_words(problem)}") from problem


def _column(path: Path, which: str, asked: Column, columns: list[str]) -> int:
    if isinstance(asked, int):
        if 0 <= asked < len(columns):
            return asked
        has = f"{len(columns)} columns: expected 0 to {len(columns) - 1}"
    else:
        if asked in columns:
            return columns.index(asked)
        has = f"the columns {', '.join(columns)}"
    raise ConfigError(
        f"data.source.{which}={asked}: {path} has {has}. Choose one of them; data.source.header says whether the first "
        "row names them"
    )


def _json_lines(path: Path, lines: io.StringIO, text: str, label: str) -> Iterator[Sample | Wrong]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError:
            yield Wrong(path, number, "is no JSON")
            continue
        if not isinstance(found, dict) or text not in found:
            yield Wrong(path, number, f"is no object with {text!r} (data.source.text)")
        else:
            yield _of_values(path, number, found[text], found.get(label))


def _of_values(path: Path, line: int, text: Any, label: Any) -> Sample | Wrong:
    if not isinstance(text, str | None):
        return Wrong(path, line, f"has {text!r} for a text, expected one in quotation marks")
    if isinstance(label, list | dict):
        return Wrong(
            path,
            line,
            f"""has {label!r} for a label, expected one; of several: "a;b" and 'data.source.label_separator=";"'""",
        )
    return _checked(path, line, text or "", "" if label is None else str(label))


def _checked(path: Path, line: int, text: str, label: str) -> Sample | Wrong:
    if not is_unicode(text + label):
        return Wrong(path, line, NOT_UNICODE)
    if not any(each.isprintable() and each != " " for each in text):  # marks of no width are no text
        return Wrong(path, line, "has an empty text")
    return Sample(path, line, text.strip(), label.strip())


def _labelled(row: Sample | Wrong) -> Sample | Wrong:
    if isinstance(row, Sample) and not row.label:
        return Wrong(row.file, row.line, "has no label")
    return row
