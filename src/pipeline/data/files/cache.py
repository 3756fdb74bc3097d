"""A user's files decoded once into one file of numbers, which is read as it is needed."""

import hashlib
import io
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

from pipeline.data.on_disk import OnDiskTensor, RowFile
from pipeline.errors import DataError
from pipeline.system.files import cache_folder, file_lock, write_atomically

FILES_AT_A_TIME = 4096  # between two moves of the progress bar
HASH_BYTES = 16
LAYOUT = 2  # of what is kept beside the values: another one, and all is decoded anew

Array = npt.NDArray[Any]
T = TypeVar("T")
R = TypeVar("R")


class UnreadableFile(Exception):
    """A file cannot be used. The message completes "<file> ..."."""


@dataclass(frozen=True)
class BadFile:
    """The file in row `row` cannot be used, and why."""

    row: int
    reason: str


@dataclass(frozen=True)
class DecodedFiles:
    """inputs (N, *shape), as they stand in the file; `hashes` (N, 16) uint8 tell equal samples from others."""

    inputs: OnDiskTensor
    hashes: Array
    bad: list[BadFile]
    skipped: tuple[str, ...] = ()

    def rows(self, rows: Sequence[int], skipped: tuple[str, ...]) -> "DecodedFiles":
        """Return these rows, in this order; `skipped` lists the others."""
        index = torch.tensor(rows, dtype=torch.int64)
        return DecodedFiles(OnDiskTensor(self.inputs.file, index), self.hashes[index.numpy()], [], skipped)


@dataclass(frozen=True)
class FileFacts:
    """What is stored of a file beside its values: see RowFile."""

    hash: bytes
    sums: Array
    wrong: str = ""


@dataclass(frozen=True)
class Decoder:
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


def load_decoded(root: Path, paths: Sequence[str], decoding: Decoder) -> DecodedFiles:
    """Return the files in this order, from the cache, or decoded into it now.

    The cache knows them by path, size and time of change: whichever differs, all are decoded anew; and so they are
    when the file of their values is not as it was left.
    """
    folder = cache_folder() / f"{decoding.noun}s"
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / cache_key(root, paths, f"{LAYOUT} {decoding.version} {decoding.shape}")
    values, about, rows = (place.with_suffix(suffix) for suffix in (".values", ".json", ".npz"))
    with file_lock(place.with_suffix(".lock")):
        if not (about.exists() and rows.exists() and _file_state(values) == json.loads(about.read_text())["values"]):
            facts = _decode_into(root, paths, decoding, values)
            write_atomically(rows, _pack(facts))
            bad = [[row, each.wrong] for row, each in enumerate(facts) if each.wrong]
            write_atomically(about, json.dumps({"values": _file_state(values), "bad": bad}))
        with np.load(rows, allow_pickle=False) as known:
            hashes, sums = known["hashes"], known["sums"]
    dtype = torch.from_numpy(np.empty(0, dtype=decoding.dtype)).dtype
    file = RowFile(values, (len(paths), *decoding.shape), dtype, hashes, sums if sums.size else None)
    bad = json.loads(about.read_text())["bad"]
    return DecodedFiles(OnDiskTensor(file, torch.arange(len(paths))), hashes, [BadFile(*each) for each in bad])


def _pack(facts: Sequence[FileFacts]) -> bytes:
    content = io.BytesIO()
    hashes = np.frombuffer(b"".join(each.hash for each in facts), dtype=np.uint8).reshape(-1, HASH_BYTES)
    np.savez(content, hashes=hashes, sums=np.stack([each.sums for each in facts]))
    return content.getvalue()


def _file_state(path: Path) -> list[int]:
    """Return size and time of change of a file; nothing for one that is not there."""
    return [path.stat().st_size, path.stat().st_mtime_ns] if path.exists() else []


def _decode_into(root: Path, paths: Sequence[str], decoding: Decoder, target: Path) -> list[FileFacts]:
    """Decode into a temporary file, which gets the name `target` when it is complete."""
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
    return found


def _decode_all(root: Path, paths: Sequence[str], decoding: Decoder, target: Path) -> list[FileFacts]:
    """Write the values of all files to `target`; return the facts of each file."""
    size = int(np.prod(decoding.shape)) * np.dtype(decoding.dtype).itemsize
    with target.open("wb") as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is told now
            os.posix_fallocate(file.fileno(), 0, len(paths) * size)
        else:
            file.truncate(len(paths) * size)

        def put(row: int) -> FileFacts:
            try:
                values = decoding.decode(root / paths[row])
            except UnreadableFile as problem:
                return FileFacts(
                    bytes(HASH_BYTES), channel_sums(np.zeros(decoding.shape, decoding.dtype)), str(problem)
                )
            content = values.tobytes()
            os.pwrite(file.fileno(), content, row * size)
            return FileFacts(hashlib.blake2b(content, digest_size=HASH_BYTES).digest(), channel_sums(values))

        return list(map_in_threads(put, range(len(paths)), f"decoding {decoding.noun}s"))


def channel_sums(values: Array) -> Array:
    """(C, 2): of each channel of (C, ...) the sum of its values, and of their squares; (0, 2) where there is only one
    dimension."""
    if values.ndim < 2:
        return np.empty((0, 2), dtype=np.int64)
    channels = values.reshape(len(values), -1).astype(np.int64)
    return np.stack([channels.sum(1), (channels * channels).sum(1)], axis=1)


def map_in_threads(call: Callable[[T], R], items: Sequence[T], what: str) -> Iterator[R]:
    """Call for each item, in order, in threads: decoders release Python's lock."""
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


def cache_key(root: Path, paths: Sequence[str], what: str) -> str:
    """Return a cache key of the files' paths, sizes and times of change, and of `what` is kept of them."""
    result = hashlib.sha256(os.fsencode(f"{what} {root.resolve()}\n"))
    for path in paths:
        try:
            state = (root / path).stat()
            told = f"{state.st_size}\0{state.st_mtime_ns}"
        except OSError as problem:  # gone since it was listed: whoever reads it will tell
            told = str(problem.errno)
        result.update(os.fsencode(f"{path}\0{told}\n"))
    return result.hexdigest()[:32]
