"""A user's files decoded once into one array, which is mapped into memory and read as it is needed."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import torch

from pipeline.errors import DataError
from pipeline.files import cache_folder, locked, write_atomically

FILES_AT_A_TIME = 4096  # between two moves of the progress bar

Array = npt.NDArray[Any]
T = TypeVar("T")
R = TypeVar("R")


class Unreadable(Exception):
    """A file cannot be used. The message completes "<file> ..."."""


@dataclass(frozen=True)
class Bad:
    """The file in row `row` cannot be used, and why."""

    row: int
    reason: str


@dataclass(frozen=True)
class Cached:
    """inputs (N, *shape), mapped from the file; `hashes` tell equal samples from others, "" for `bad` ones."""

    inputs: torch.Tensor
    hashes: list[str]
    bad: list[Bad]


@dataclass(frozen=True)
class Decoding:
    """How a file becomes a row of the array.

    noun     what a file is called; the caches of its kind lie in a folder of this name
    version  of what `decode` does and with which settings: another one, and all is decoded anew
    decode   raises Unreadable
    """

    noun: str
    version: str
    shape: tuple[int, ...]
    dtype: type[np.generic]
    decode: Callable[[Path], Array]


def cached(root: Path, paths: Sequence[str], decoding: Decoding) -> Cached:
    """The files in this order, from the cache, or decoded into it now.

    The cache knows them by path, size and time of change: whichever differs, all are decoded anew.
    """
    folder = cache_folder() / f"{decoding.noun}s"
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / _key(root, paths, decoding)
    array, about = place.with_suffix(".npy"), place.with_suffix(".json")
    with locked(place.with_suffix(".lock")):
        if not (about.exists() and array.exists()):
            hashes, bad = _fill(root, paths, decoding, array)
            write_atomically(about, json.dumps({"hashes": hashes, "bad": [[each.row, each.reason] for each in bad]}))
    found = json.loads(about.read_text())
    # Copy-on-write: torch wants memory it may write to, and the file stays as it is.
    mapped = np.load(array, mmap_mode="c", allow_pickle=False)
    return Cached(torch.from_numpy(mapped), found["hashes"], [Bad(*each) for each in found["bad"]])


def _fill(root: Path, paths: Sequence[str], decoding: Decoding, target: Path) -> tuple[list[str], list[Bad]]:
    """What is half done never has the name `target`."""
    unfinished = target.with_name(f"{target.stem}-{uuid4().hex}.unfinished")
    try:
        found = _decode_all(root, paths, decoding, unfinished)
        os.replace(unfinished, target)
    except OSError as problem:
        gigabytes = len(paths) * int(np.prod(decoding.shape)) * np.dtype(decoding.dtype).itemsize / 1e9
        raise DataError(
            f"the {decoding.noun}s of {root} ({len(paths):,}, decoded {gigabytes:.1f} GB) cannot be kept in "
            f"{target.parent}: {problem}. Make room there, or choose another place: XDG_CACHE_HOME=/large/disk"
        ) from problem
    finally:
        unfinished.unlink(missing_ok=True)
    return [name for name, _ in found], [Bad(row, reason) for row, (_, reason) in enumerate(found) if reason]


def _decode_all(root: Path, paths: Sequence[str], decoding: Decoding, target: Path) -> list[tuple[str, str]]:
    """(hash, what is wrong) of each file; its values in `target`."""
    shape = (len(paths), *decoding.shape)
    array = np.lib.format.open_memmap(target, mode="w+", dtype=decoding.dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):  # a full disk is told now: in mapped memory it would be a SIGBUS
        with target.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, target.stat().st_size)

    def put(row: int) -> tuple[str, str]:
        try:
            array[row] = decoding.decode(root / paths[row])
        except Unreadable as problem:
            return "", str(problem)
        return hashlib.blake2b(array[row].tobytes(), digest_size=16).hexdigest(), ""

    found = list(side_by_side(put, range(len(paths)), f"decoding {decoding.noun}s"))
    array.flush()
    return found


def side_by_side(call: Callable[[T], R], items: Sequence[T], what: str) -> Iterator[R]:
    """In order. By threads: what decodes does so outside of Python's lock."""
    with ThreadPoolExecutor() as pool, _progress(what, len(items)) as advance:
        for first in range(0, len(items), FILES_AT_A_TIME):
            some = items[first : first + FILES_AT_A_TIME]
            yield from pool.map(call, some)
            advance(len(some))


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)


def _key(root: Path, paths: Sequence[str], decoding: Decoding) -> str:
    result = hashlib.sha256(f"{decoding.version} {root.resolve()} {decoding.shape}\n".encode())
    for path in paths:
        state = (root / path).stat()
        result.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return result.hexdigest()[:32]
