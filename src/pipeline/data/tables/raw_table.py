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

# N rows, n of a chunk, F columns of inputs, A others: the target, a time, a group


@dataclass(frozen=True)
class TableReader:
    """Two passes over the files: what the columns hold, then their numbers.

    `categorical` columns are taken as names, however they look; `target`, `time` and `group` are no inputs.
    """

    files: Mapping[str, Path]
    categorical: Sequence[str]
    ignored: Sequence[str]
    target: str
    answer: Literal["number", "class"] | None
    time: str | None
    group: str | None
    on_bad_sample: OnBadSample

    @property
    def others(self) -> list[str]:
        return [name for name in (self.target, self.time, self.group) if name is not None]

    def into(self, values: BinaryIO) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Writes (N, F) float32. (what is kept of each row, what is kept of the columns)"""
        found = self._surveyed()
        others = [found.pop(name) for name in self.others]
        columns = list(found.values())
        for column in (*columns, *others):
            if column.kind == "category" and column.known and not column.levels:
                raise DataError(
                    f"{self._where}: {column.name} has more different texts than can be told apart. Leave it out with "
                    f"data.source.ignore=[{column.name}]."
                )
        kept: dict[str, list[Any]] = {name: [] for name in ("others", "file_of", "places", "hashes")}
        bad: list[str] = []
        rows = 0
        for number, path in enumerate(self.files.values()):
            for chunk in read_chunks(path):
                inputs = _matrix(columns, chunk)
                aside = _matrix(others, chunk)
                wrong = self._wrong((*columns, *others), np.hstack([inputs, aside]), chunk, path)
                bad += [f"{location_in(path, each)} {reason}" for each, reason in chunk.bad]
                bad += [f"{location_in(path, chunk.places[row])}: {reason}" for row, reason in sorted(wrong.items())]
                good = np.setdiff1d(np.arange(len(chunk.places)), list(wrong))
                stored = inputs[good].astype(np.float32)
                values.write(stored.tobytes())
                kept["others"].append(aside[good])
                kept["file_of"].append(np.full(len(good), number, dtype=np.int8))
                kept["places"].append(np.asarray(chunk.places, dtype=np.int64)[good])
                kept["hashes"].append(hash_rows(np.hstack([stored, aside[good].astype(np.float32)])))
                rows += len(chunk.places) + len(chunk.bad)
        skipped = skip_or_fail(bad, on_bad_sample=self.on_bad_sample, of=rows, what="rows")
        about = {"columns": list(map(asdict, columns)), "others": list(map(asdict, others)), "skipped": skipped}
        return {name: np.concatenate(each) for name, each in kept.items()}, about

    def _surveyed(self) -> dict[str, Column]:
        """Return all columns but those that are ignored, in the first file's order."""
        surveys: dict[str, ColumnSurvey] = {}
        for path in self.files.values():
            for number, chunk in enumerate(read_chunks(path)):
                names = [name for name in chunk.cells if name not in self.ignored]
                if not surveys:
                    check_columns_exist(path, list(chunk.cells), (*self.others, *self.categorical, *self.ignored))
                    surveys = {name: ColumnSurvey(name) for name in names}
                if number == 0 and set(names) != set(surveys):
                    raise DataError(
                        f"{path} has the columns {', '.join(names)}; expected those of {self._where}: "
                        f"{', '.join(surveys)}."
                    )
                for name, survey in surveys.items():
                    survey.add(chunk.cells[name])
        if next(iter(surveys.values())).cells == 0:
            raise DataError(f"{self._where} is empty: expected a line with the columns' names, and rows below it.")
        return {name: each.column(self._kind(each)) for name, each in surveys.items()}

    def _kind(self, survey: ColumnSurvey) -> ColumnKind | None:
        if survey.name == self.group:
            return "key"
        if survey.name == self.target and (self.answer == "class" or (self.answer is None and survey.is_class)):
            return "category"
        return "category" if survey.name in self.categorical else None

    def _wrong(self, columns: Sequence[Column], numbers: Numbers, chunk: TableChunk, path: Path) -> dict[int, str]:
        """{row of the chunk: why it cannot be used}"""
        wrong: dict[int, str] = {}
        beyond = np.abs(numbers) > LARGEST_FLOAT32
        for row, place in zip(*np.nonzero(beyond), strict=True):
            column = columns[place]
            wrong.setdefault(int(row), column.reason(str(chunk.cells[column.name][row])))
        for name in self.others:
            missing = np.array([level == MISSING_LEVEL for level in cell_levels(chunk.cells[name])], dtype=bool)
            for row in np.flatnonzero(missing).tolist():
                is_target = name == self.target
                wrong[row] = (
                    f"the target {name} is missing" if is_target else f"{name} is missing, which decides the split"
                )
        return wrong

    @property
    def _where(self) -> Path:
        return next(iter(self.files.values()))


def _matrix(columns: Sequence[Column], chunk: TableChunk) -> Numbers:
    """(n, F)"""
    found = np.empty((len(chunk.places), len(columns)), dtype=np.float64)
    for place, column in enumerate(columns):
        found[:, place] = column.numbers(chunk.cells[column.name])
    return found


def hash_rows(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """Return a hash of each row (n,): numbers mixed with those of columns (SplitMix64, Steele, Lea & Flood 2014)."""
    mixed = np.ascontiguousarray(rows).view(np.uint32).astype(np.uint64)
    mixed += np.arange(1, rows.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: npt.NDArray[np.uint64] = (mixed ^ (mixed >> np.uint64(31))).sum(axis=1, dtype=np.uint64)
    return found


VERSION = 2  # of what reading does: another one, and all tables are read anew
BYTES_A_ROW = 100  # what cutting, ordering and counting take in memory, besides the values

Files = Mapping[str, Path]  # by the part they are for
RowNumbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RawTable:
    """`values` (N, F) float32, NaN where missing; `others` (N, A) float64; `file_of` (N,) the number of its file;
    `places` (N,) where in it a row stands; `hashes` (N,) tell equal rows from others."""

    columns: list[Column]
    other_columns: list[Column]
    values: Inputs
    others: Numbers
    file_of: npt.NDArray[np.int8]
    places: RowNumbers
    hashes: npt.NDArray[np.uint64]
    skipped: tuple[str, ...]

    def without(self, rows: RowNumbers, skipped: tuple[str, ...]) -> "RawTable":
        """Return the table without these rows, of which `skipped` tells."""
        kept = np.setdiff1d(np.arange(len(self.places)), rows)
        each = {name: getattr(self, name)[kept] for name in ("others", "file_of", "places", "hashes")}
        values = select_rows(self.values, torch.from_numpy(kept))
        return replace(self, values=values, skipped=self.skipped + skipped, **each)


def read_raw_table(reading: TableReader) -> RawTable:
    """Raises DataError."""
    if sum(map(table_files.estimate_value_bytes, reading.files.values())) <= MAX_IN_MEMORY_BYTES:
        buffer = io.BytesIO()
        arrays, about = reading.into(buffer)
        values = torch.from_numpy(np.frombuffer(buffer.getbuffer(), dtype=np.float32))
        return _table(arrays, about, values.reshape(len(arrays["places"]), -1))
    return _read_cached(reading)


def _read_cached(reading: TableReader) -> RawTable:
    """Read through the cache, which knows the files by path, size and time of change."""
    folder = cache_folder() / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / _cache_key(reading)
    values, kept, about = (place.with_suffix(suffix) for suffix in (".values", ".npz", ".json"))
    with file_lock(place.with_suffix(".lock")):
        if not (values.exists() and kept.exists() and about.exists()):
            check_space(reading)
            unfinished = values.with_name(f"{values.stem}-{uuid4().hex}.unfinished")
            try:
                with unfinished.open("wb") as file:
                    arrays, told = reading.into(file)
                content = io.BytesIO()
                np.savez(content, allow_pickle=False, **arrays)
                write_atomically(kept, content.getvalue())
                write_atomically(about, json.dumps(told))
                os.replace(unfinished, values)
            except OSError as problem:
                raise DataError(f"{folder} cannot hold the table: {problem}. {_OTHER_CACHE}") from problem
            finally:
                unfinished.unlink(missing_ok=True)
        with np.load(kept, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        told = json.loads(about.read_text())
    shape = (len(arrays["places"]), len(told["columns"]))
    return _table(arrays, told, OnDiskTensor(RowFile(values, shape, torch.float32), torch.arange(shape[0])))


_OTHER_CACHE = "Make room there, or choose another place: XDG_CACHE_HOME=/large/disk"


def _table(arrays: dict[str, npt.NDArray[Any]], about: dict[str, Any], values: Inputs) -> RawTable:
    columns, others = ([_column(each) for each in about[name]] for name in ("columns", "others"))
    skipped = tuple(about["skipped"])
    return RawTable(
        columns, others, values, arrays["others"], arrays["file_of"], arrays["places"], arrays["hashes"], skipped
    )


def _column(told: dict[str, Any]) -> Column:
    return Column(**told | {"levels": tuple(told["levels"])})


def _cache_key(reading: TableReader) -> str:
    state = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in reading.files.values()]
    asked = {name: value for name, value in vars(reading).items() if name != "files"}
    return hashlib.sha256(json.dumps([VERSION, state, list(reading.files), asked]).encode()).hexdigest()[:32]


def check_space(reading: TableReader) -> None:
    """Raises DataError where the table will not fit: before hours of reading, not after."""
    rows = sum(table_files.estimate_rows(path) for path in reading.files.values())
    names = [
        name for name in next(read_chunks(next(iter(reading.files.values())))).cells if name not in reading.ignored
    ]
    size = sum(path.stat().st_size for path in reading.files.values())
    needed, free = rows * BYTES_A_ROW, available_memory_bytes()
    what = f"{', '.join(str(path) for path in reading.files.values())}: {size / 1e9:.1f} GB, about {rows:,} rows"
    if needed > free:
        raise DataError(
            f"{what}. Its values stay on the disk, but to cut and order its rows takes {needed / 1e9:.1f} GB of "
            f"memory, and {free / 1e9:.1f} GB are free. Take fewer rows, or a machine with more memory."
        )
    cache_folder().mkdir(parents=True, exist_ok=True)
    values, room = rows * len(names) * table_files.VALUE_BYTES, shutil.disk_usage(cache_folder()).free
    if values > room:
        raise DataError(
            f"{what}. Its values take {values / 1e9:.1f} GB in {cache_folder()}, where {room / 1e9:.1f} GB are "
            f"free. {_OTHER_CACHE}"
        )
