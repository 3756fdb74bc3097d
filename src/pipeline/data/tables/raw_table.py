"""A table as numbers, before anything is fitted: small tables in memory, large ones in a file of the cache."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import torch

from pipeline.data.bad_samples import OnBadSample, skip_or_fail
from pipeline.data.on_disk import MAX_IN_MEMORY_BYTES, Inputs, OnDiskTensor, RowFile, select_rows
from pipeline.data.tables import table_files
from pipeline.data.tables.columns import (
    LARGEST_FLOAT32,
    MISSING_LEVEL,
    Column,
    ColumnKind,
    ColumnSurvey,
    Numbers,
    cell_levels,
)
from pipeline.data.tables.table_files import TableChunk, check_columns_exist, location_in, read_chunks
from pipeline.errors import DataError
from pipeline.system.files import cache_folder, file_lock, write_atomically
from pipeline.system.memory_limit import available_memory_bytes

# N rows, n rows of a chunk, F columns of inputs, R columns with a role: target, time, group

VERSION = 2  # of what TableReader does; another number makes all caches invalid
MEMORY_PER_ROW = 100  # bytes that splitting, ordering and counting take, besides the values
_OTHER_CACHE = "Make room there, or choose another place: XDG_CACHE_HOME=/large/disk"

RowNumbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RawTable:
    """A table as numbers.

    values   (N, F) float32, NaN where missing
    others   (N, R) float64, the columns with a role
    file_of  (N,) the number of the file of each row
    places   (N,) the line or row in this file
    hashes   (N,) equal for equal rows
    skipped  lines about rows that were left out
    """

    columns: list[Column]
    other_columns: list[Column]
    values: Inputs
    others: Numbers
    file_of: npt.NDArray[np.int8]
    places: RowNumbers
    hashes: npt.NDArray[np.uint64]
    skipped: tuple[str, ...]

    def without(self, rows: RowNumbers, skipped: tuple[str, ...]) -> "RawTable":
        """Return the table without these rows; `skipped` has the lines about them."""
        remaining = np.setdiff1d(np.arange(len(self.places)), rows)
        arrays = {name: getattr(self, name)[remaining] for name in ("others", "file_of", "places", "hashes")}
        values = select_rows(self.values, torch.from_numpy(remaining))
        return replace(self, values=values, skipped=self.skipped + skipped, **arrays)


@dataclass(frozen=True)
class TableReader:
    """Reads files in two passes: first what the columns contain, then their numbers.

    files        by the split they are for
    categorical  columns to read as categories, even where they look like numbers
    ignored      columns to leave out
    target, time, group
                 columns with a role, which are not inputs
    """

    files: Mapping[str, Path]
    categorical: Sequence[str]
    ignored: Sequence[str]
    target: str
    answer: Literal["number", "class"] | None
    time: str | None
    group: str | None
    on_bad_sample: OnBadSample

    def read(self) -> RawTable:
        """Return the table. Raises DataError."""
        if sum(map(table_files.estimate_value_bytes, self.files.values())) <= MAX_IN_MEMORY_BYTES:
            buffer = io.BytesIO()
            arrays, about = self.read_into(buffer)
            values = torch.from_numpy(np.frombuffer(buffer.getbuffer(), dtype=np.float32))
            return _table(arrays, about, values.reshape(len(arrays["places"]), -1))
        return self._read_cached()

    def read_into(self, values: BinaryIO) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Write the inputs, (N, F) float32; return the other arrays of the table, and facts about its columns."""
        columns_by_name = self._survey()
        others = [columns_by_name.pop(name) for name in self._roles]
        columns = list(columns_by_name.values())
        for column in (*columns, *others):
            if column.kind == "category" and column.known and not column.levels:
                raise DataError(
                    f"{self._first}: {column.name} has too many different texts to tell them apart. Leave it out with "
                    f"data.source.ignore=[{column.name}]."
                )
        arrays: dict[str, list[Any]] = {name: [] for name in ("others", "file_of", "places", "hashes")}
        bad: list[str] = []
        total = 0
        for number, path in enumerate(self.files.values()):
            for chunk in read_chunks(path):
                inputs = _matrix(columns, chunk)
                aside = _matrix(others, chunk)
                wrong = self._bad_rows((*columns, *others), np.hstack([inputs, aside]), chunk)
                bad += [f"{location_in(path, place)} {reason}" for place, reason in chunk.bad]
                bad += [f"{location_in(path, chunk.places[row])}: {reason}" for row, reason in sorted(wrong.items())]
                good = np.setdiff1d(np.arange(len(chunk.places)), list(wrong))
                stored = inputs[good].astype(np.float32)
                values.write(stored.tobytes())
                arrays["others"].append(aside[good])
                arrays["file_of"].append(np.full(len(good), number, dtype=np.int8))
                arrays["places"].append(np.asarray(chunk.places, dtype=np.int64)[good])
                arrays["hashes"].append(hash_rows(np.hstack([stored, aside[good].astype(np.float32)])))
                total += len(chunk.places) + len(chunk.bad)
        skipped = skip_or_fail(bad, on_bad_sample=self.on_bad_sample, of=total, what="rows")
        about = {"columns": list(map(asdict, columns)), "others": list(map(asdict, others)), "skipped": skipped}
        return {name: np.concatenate(pieces) for name, pieces in arrays.items()}, about

    def _read_cached(self) -> RawTable:
        """Read through the cache, which is valid for the same paths, sizes and modification times."""
        folder = cache_folder() / "tables"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self._cache_key()
        values, others, about = (path.with_suffix(suffix) for suffix in (".values", ".npz", ".json"))
        with file_lock(path.with_suffix(".lock")):
            if not (values.exists() and others.exists() and about.exists()):
                check_space(self)
                unfinished = values.with_name(f"{values.stem}-{uuid4().hex}.unfinished")
                try:
                    with unfinished.open("wb") as file:
                        arrays, facts = self.read_into(file)
                    content = io.BytesIO()
                    np.savez(content, allow_pickle=False, **arrays)
                    write_atomically(others, content.getvalue())
                    write_atomically(about, json.dumps(facts))
                    os.replace(unfinished, values)
                except OSError as problem:
                    raise DataError(f"{folder} cannot hold the table: {problem}. {_OTHER_CACHE}") from problem
                finally:
                    unfinished.unlink(missing_ok=True)
            with np.load(others, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            facts = json.loads(about.read_text())
        shape = (len(arrays["places"]), len(facts["columns"]))
        return _table(arrays, facts, OnDiskTensor(RowFile(values, shape, torch.float32), torch.arange(shape[0])))

    def _cache_key(self) -> str:
        state = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in self.files.values()]
        options = {name: value for name, value in vars(self).items() if name != "files"}
        return hashlib.sha256(json.dumps([VERSION, state, list(self.files), options]).encode()).hexdigest()[:32]

    @property
    def _roles(self) -> list[str]:
        return [name for name in (self.target, self.time, self.group) if name is not None]

    @property
    def _first(self) -> Path:
        return next(iter(self.files.values()))

    def _survey(self) -> dict[str, Column]:
        """Return all columns but those that are ignored, in the order of the first file."""
        surveys: dict[str, ColumnSurvey] = {}
        for path in self.files.values():
            for number, chunk in enumerate(read_chunks(path)):
                names = [name for name in chunk.cells if name not in self.ignored]
                if not surveys:
                    check_columns_exist(path, list(chunk.cells), (*self._roles, *self.categorical, *self.ignored))
                    surveys = {name: ColumnSurvey(name) for name in names}
                if number == 0 and set(names) != set(surveys):
                    raise DataError(
                        f"{path} has the columns {', '.join(names)}; expected those of {self._first}: "
                        f"{', '.join(surveys)}."
                    )
                for name, survey in surveys.items():
                    survey.add(chunk.cells[name])
        if next(iter(surveys.values())).cells == 0:
            raise DataError(f"{self._first} is empty: expected a line with the columns' names, and rows below it.")
        return {name: survey.column(self._kind(survey)) for name, survey in surveys.items()}

    def _kind(self, survey: ColumnSurvey) -> ColumnKind | None:
        """Return the kind of a column where the options say it."""
        if survey.name == self.group:
            return "key"
        if survey.name == self.target and (self.answer == "class" or (self.answer is None and survey.is_class)):
            return "category"
        return "category" if survey.name in self.categorical else None

    def _bad_rows(self, columns: Sequence[Column], numbers: Numbers, chunk: TableChunk) -> dict[int, str]:
        """Return {row of the chunk: why it cannot be used}."""
        reasons: dict[int, str] = {}
        for row, number in zip(*np.nonzero(np.abs(numbers) > LARGEST_FLOAT32), strict=True):
            column = columns[number]
            reasons.setdefault(int(row), column.reason(str(chunk.cells[column.name][row])))
        for name in self._roles:
            missing = np.array([level == MISSING_LEVEL for level in cell_levels(chunk.cells[name])], dtype=bool)
            for row in np.flatnonzero(missing).tolist():
                reasons[row] = (
                    f"the target {name} is missing"
                    if name == self.target
                    else f"{name} is missing, which decides the split"
                )
        return reasons


def _matrix(columns: Sequence[Column], chunk: TableChunk) -> Numbers:
    """Return the numbers of these columns, (n, F)."""
    numbers = np.empty((len(chunk.places), len(columns)), dtype=np.float64)
    for place, column in enumerate(columns):
        numbers[:, place] = column.numbers(chunk.cells[column.name])
    return numbers


def hash_rows(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """Return a hash of each row (n,): its numbers mixed with column numbers (SplitMix64, Steele, Lea & Flood 2014)."""
    mixed = np.ascontiguousarray(rows).view(np.uint32).astype(np.uint64)
    mixed += np.arange(1, rows.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    hashes: npt.NDArray[np.uint64] = (mixed ^ (mixed >> np.uint64(31))).sum(axis=1, dtype=np.uint64)
    return hashes


def _table(arrays: dict[str, npt.NDArray[Any]], about: dict[str, Any], values: Inputs) -> RawTable:
    columns, others = (
        [Column(**facts | {"levels": tuple(facts["levels"])}) for facts in about[name]]
        for name in ("columns", "others")
    )
    return RawTable(columns, others, values=values, skipped=tuple(about["skipped"]), **arrays)


def check_space(reader: TableReader) -> None:
    """Raise DataError where the table does not fit into memory or on the disk: before hours of reading, not after."""
    files = reader.files.values()
    rows = sum(map(table_files.estimate_rows, files))
    names = [name for name in next(read_chunks(next(iter(files)))).cells if name not in reader.ignored]
    size = sum(path.stat().st_size for path in files)
    needed, free = rows * MEMORY_PER_ROW, available_memory_bytes()
    what = f"{', '.join(map(str, files))}: {size / 1e9:.1f} GB, about {rows:,} rows"
    if needed > free:
        raise DataError(
            f"{what}. Its values stay on the disk, but to split and order its rows takes {needed / 1e9:.1f} GB of "
            f"memory, and {free / 1e9:.1f} GB are free. Take fewer rows, or a machine with more memory."
        )
    cache_folder().mkdir(parents=True, exist_ok=True)
    values, room = rows * len(names) * table_files.VALUE_BYTES, shutil.disk_usage(cache_folder()).free
    if values > room:
        raise DataError(
            f"{what}. Its values take {values / 1e9:.1f} GB in {cache_folder()}, where {room / 1e9:.1f} GB are "
            f"free. {_OTHER_CACHE}"
        )
