"""A table as numbers, of which nothing is fitted yet: small ones in memory, large ones in a file of the cache."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import torch

from pipeline.data.on_disk import KEPT_BYTES, Inputs, OnDiskTensor, RowFile, pick
from pipeline.data.tables import table_files
from pipeline.data.tables.columns import Column, Numbers
from pipeline.data.tables.table_files import chunks
from pipeline.data.tables.table_reading import Reading
from pipeline.errors import DataError
from pipeline.files import cache_folder, locked, write_atomically
from pipeline.memory import free_bytes

# N rows, n of a chunk, F columns of inputs, A others: the target, a time, a group

VERSION = 2  # of what reading does: another one, and all tables are read anew
BYTES_A_ROW = 100  # what cutting, ordering and counting take in memory, besides the values

Files = Mapping[str, Path]  # by the part they are for
Numbered = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RawTable:
    """`values` (N, F) float32, NaN where missing; `others` (N, A) float64; `file_of` (N,) the number of its file;
    `places` (N,) where in it a row stands; `hashes` (N,) tell equal rows from others."""

    columns: list[Column]
    other_columns: list[Column]
    values: Inputs
    others: Numbers
    file_of: npt.NDArray[np.int8]
    places: Numbered
    hashes: npt.NDArray[np.uint64]
    skipped: tuple[str, ...]

    def without(self, rows: Numbered, skipped: tuple[str, ...]) -> "RawTable":
        """`skipped` tells of these rows."""
        kept = np.setdiff1d(np.arange(len(self.places)), rows)
        each = {name: getattr(self, name)[kept] for name in ("others", "file_of", "places", "hashes")}
        values = pick(self.values, torch.from_numpy(kept))
        return replace(self, values=values, skipped=self.skipped + skipped, **each)


def read(reading: Reading) -> RawTable:
    """Raises DataError."""
    if sum(map(table_files.size_of, reading.files.values())) <= KEPT_BYTES:
        buffer = io.BytesIO()
        arrays, about = reading.into(buffer)
        values = torch.from_numpy(np.frombuffer(buffer.getbuffer(), dtype=np.float32))
        return _table(arrays, about, values.reshape(len(arrays["places"]), -1))
    return _cached(reading)


def _cached(reading: Reading) -> RawTable:
    """The cache knows the files by path, size and time of change."""
    folder = cache_folder() / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / _key(reading)
    values, kept, about = (place.with_suffix(suffix) for suffix in (".values", ".npz", ".json"))
    with locked(place.with_suffix(".lock")):
        if not (values.exists() and kept.exists() and about.exists()):
            check_room(reading)
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
                raise DataError(f"{folder} cannot hold the table: {problem}. {_ELSEWHERE}") from problem
            finally:
                unfinished.unlink(missing_ok=True)
        with np.load(kept, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        told = json.loads(about.read_text())
    shape = (len(arrays["places"]), len(told["columns"]))
    return _table(arrays, told, OnDiskTensor(RowFile(values, shape, torch.float32), torch.arange(shape[0])))


_ELSEWHERE = "Make room there, or choose another place: XDG_CACHE_HOME=/large/disk"


def _table(arrays: dict[str, npt.NDArray[Any]], about: dict[str, Any], values: Inputs) -> RawTable:
    columns, others = ([_column(each) for each in about[name]] for name in ("columns", "others"))
    skipped = tuple(about["skipped"])
    return RawTable(
        columns, others, values, arrays["others"], arrays["file_of"], arrays["places"], arrays["hashes"], skipped
    )


def _column(told: dict[str, Any]) -> Column:
    return Column(**told | {"levels": tuple(told["levels"])})


def _key(reading: Reading) -> str:
    state = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in reading.files.values()]
    asked = {name: value for name, value in vars(reading).items() if name != "files"}
    return hashlib.sha256(json.dumps([VERSION, state, list(reading.files), asked]).encode()).hexdigest()[:32]


def check_room(reading: Reading) -> None:
    """Raises DataError where the table will not fit: before hours of reading, not after."""
    rows = sum(table_files.row_count(path) for path in reading.files.values())
    names = [name for name in next(chunks(next(iter(reading.files.values())))).cells if name not in reading.ignored]
    size = sum(path.stat().st_size for path in reading.files.values())
    needed, free = rows * BYTES_A_ROW, free_bytes()
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
            f"free. {_ELSEWHERE}"
        )
