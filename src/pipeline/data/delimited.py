"""Delimited text: the rows of CSV and TSV files, and their errors."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from pipeline.errors import DataError

if TYPE_CHECKING:
    from _csv import Reader

MAX_CELL_CHARACTERS = 1 << 24  # after an open quotation mark the rest of the file is one cell
NOT_UTF8 = "is not UTF-8; iconv -f latin1 -t utf-8 OLD > NEW converts a file"


def csv_reader(lines: Iterable[str], *, delimiter: str, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL) -> "Reader":
    """Return a strict reader of rows whose cells may have MAX_CELL_CHARACTERS."""
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    return csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)


def describe_csv_error(problem: csv.Error) -> str:
    if "field limit" in str(problem):
        return f"a cell has more than {MAX_CELL_CHARACTERS:,} characters; is a quotation mark left open before it?"
    return f"{problem}; is a quotation mark left open before it?"


def peek_first_line(file: TextIO, path: Path) -> str:
    """Return the first line, and go back to the beginning. Raises DataError where the encoding is another one."""
    line = file.readline()
    file.seek(0)
    if "\0" in line:
        raise DataError(f"{path} is in UTF-16, or is not text; expected UTF-8. Type iconv -f utf-16 -t utf-8 OLD > NEW")
    return line


def is_utf8(text: str) -> bool:
    """Return whether all bytes of the text were UTF-8, if it was decoded with errors="surrogateescape"."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def delimiter_of(path: Path, header: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    return ";" if header.count(";") > header.count(",") else ","
