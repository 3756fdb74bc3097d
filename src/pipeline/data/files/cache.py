"""The cache of decoded image and sound files: one file of numbers, of which rows are read when they are needed."""

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

# N files, C channels

FILES_PER_UPDATE = 4096  # of the progress bar
HASH_BYTES = 16
LAYOUT = 2  # version of what is stored beside the values; another number makes all caches invalid

Array = npt.NDArray[Any]
T = TypeVar("T")
R = TypeVar("R")
H = TypeVar("H")


class UnreadableFile(Exception):
    """A file cannot be used. The message is the rest of a sentence that begins with the file's name."""


@dataclass(frozen=True)
class BadFile:
    """The reason why the file in row `row` cannot be used."""

    row: int
    reason: str


@dataclass(frozen=True)
class DecodedFiles:
    """The values of N files.

    inputs   (N, *shape)
    hashes   (N, 16) uint8, equal where the values are equal
    bad      files that cannot be used; their values are 0
    skipped  lines about files that were left out
    """

    inputs: OnDiskTensor
    hashes: Array
    bad: list[BadFile]
    skipped: tuple[str, ...] = ()

    def rows(self, rows: Sequence[int], skipped: tuple[str, ...]) -> "DecodedFiles":
        """Return these rows, in this order."""
        index = torch.tensor(rows, dtype=torch.int64)
        return DecodedFiles(OnDiskTensor(self.inputs.file, index), self.hashes[index.numpy()], [], skipped)


@dataclass(frozen=True)
class FileFacts:
    """What is stored about a file beside its values: `hash` and `sums` as in RowFile, and why it cannot be used."""

    hash: bytes
    sums: Array
    problem: str = ""


@dataclass(frozen=True)
class Decoder:
    """Turns a file into a row of the array.

    noun     of this kind of file in messages
    folder   of the caches for this kind of file
    version  of what `decode` does, with its settings; another version makes a new cache
    decode   raises UnreadableFile
    """

    noun: str
    folder: str
    version: str
    shape: tuple[int, ...]
    dtype: type[np.generic]
    decode: Callable[[Path], Array]

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


def load_decoded(root: Path, paths: Sequence[str], decoder: Decoder) -> DecodedFiles:
    """Return the decoded files in this order, from the cache; what is not in it is decoded into it.

    A cache is valid for the same paths, sizes and modification times, while its own file of values is unchanged.
    """
    folder = cache_folder() / decoder.folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / cache_key(root, paths, f"{LAYOUT} {decoder.version} {decoder.shape}")
    values, about, rows = (path.with_suffix(suffix) for suffix in (".values", ".json", ".npz"))
    with file_lock(path.with_suffix(".lock")):
        if not (about.exists() and rows.exists() and _file_state(values) == json.loads(about.read_text())["values"]):
            facts = _decode_into(values, root, paths, decoder)
            write_atomically(rows, _pack(facts))
            bad = [[row, file.problem] for row, file in enumerate(facts) if file.problem]
            write_atomically(about, json.dumps({"values": _file_state(values), "bad": bad}))
        with np.load(rows, allow_pickle=False) as arrays:
            hashes, sums = arrays["hashes"], arrays["sums"]
        bad = json.loads(about.read_text())["bad"]
    dtype = torch.from_numpy(np.empty(0, dtype=decoder.dtype)).dtype
    file = RowFile(values, (len(paths), *decoder.shape), dtype, hashes, sums if sums.size else None)
    return DecodedFiles(OnDiskTensor(file, torch.arange(len(paths))), hashes, [BadFile(*row) for row in bad])


def _pack(facts: Sequence[FileFacts]) -> bytes:
    content = io.BytesIO()
    hashes = np.frombuffer(b"".join(file.hash for file in facts), dtype=np.uint8).reshape(-1, HASH_BYTES)
    np.savez(content, hashes=hashes, sums=np.stack([file.sums for file in facts]))
    return content.getvalue()


def _file_state(path: Path) -> list[int]:
    """Return size and modification time, or nothing where there is no file."""
    return [path.stat().st_size, path.stat().st_mtime_ns] if path.exists() else []


def _decode_into(target: Path, root: Path, paths: Sequence[str], decoder: Decoder) -> list[FileFacts]:
    """Decode into a temporary file, which is renamed to `target` when it is complete. Raises DataError."""
    unfinished = target.with_name(f"{target.stem}-{uuid4().hex}.unfinished")
    try:
        facts = _decode_all(unfinished, root, paths, decoder)
        os.replace(unfinished, target)
        return facts
    except OSError as problem:
        raise DataError(
            f"the {decoder.noun}s of {root} ({len(paths):,}, decoded {len(paths) * decoder.row_bytes / 1e9:.1f} GB) "
            f"cannot be kept in {target.parent}: {problem}. Make room there, or choose another place: "
            "XDG_CACHE_HOME=/large/disk"
        ) from problem
    finally:
        unfinished.unlink(missing_ok=True)


def _decode_all(target: Path, root: Path, paths: Sequence[str], decoder: Decoder) -> list[FileFacts]:
    """Write the values of all files to `target`."""
    size = decoder.row_bytes
    with target.open("wb") as file:
        if hasattr(os, "posix_fallocate"):  # fails at once where the disk is too small
            os.posix_fallocate(file.fileno(), 0, len(paths) * size)
        else:
            file.truncate(len(paths) * size)

        def decode(row: int) -> FileFacts:
            try:
                values = decoder.decode(root / paths[row])
            except UnreadableFile as problem:
                return FileFacts(bytes(HASH_BYTES), channel_sums(np.zeros(decoder.shape, decoder.dtype)), str(problem))
            content = values.tobytes()
            os.pwrite(file.fileno(), content, row * size)
            return FileFacts(hashlib.blake2b(content, digest_size=HASH_BYTES).digest(), channel_sums(values))

        return list(map_in_threads(decode, range(len(paths)), f"decoding {decoder.noun}s"))


def channel_sums(values: Array) -> Array:
    """Return (C, 2) int64: the sums of the values of (C, ...) and of their squares; (0, 2) for one dimension."""
    if values.ndim < 2:
        return np.empty((0, 2), dtype=np.int64)
    channels = values.reshape(len(values), -1).astype(np.int64)
    return np.stack([channels.sum(1), (channels * channels).sum(1)], axis=1)


def read_headers(read: Callable[[Path], H], paths: Sequence[Path]) -> tuple[list[H | None], list[BadFile]]:
    """Return the header of each file, None for those for which `read` raises UnreadableFile, and a list of these."""

    def header_or_reason(path: Path) -> H | BadFile:
        try:
            return read(path)
        except UnreadableFile as problem:
            return BadFile(0, str(problem))

    results = list(map_in_threads(header_or_reason, paths, "reading the headers"))
    bad = [BadFile(row, result.reason) for row, result in enumerate(results) if isinstance(result, BadFile)]
    return [None if isinstance(result, BadFile) else result for result in results], bad


def map_in_threads(call: Callable[[T], R], items: Sequence[T], what: str) -> Iterator[R]:
    """Yield the result of `call` for each item, in order. Decoders release Python's lock, so threads are enough."""
    with ThreadPoolExecutor() as pool, _progress(what, len(items)) as advance:
        for first in range(0, len(items), FILES_PER_UPDATE):
            group = items[first : first + FILES_PER_UPDATE]
            yield from pool.map(call, group)
            advance(len(group))


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
    """Return a key for `what` is stored, made from the files' paths, sizes and modification times."""
    key = hashlib.sha256(os.fsencode(f"{what} {root.resolve()}\n"))
    for path in paths:
        try:
            status = (root / path).stat()
            state = f"{status.st_size}\0{status.st_mtime_ns}"
        except OSError as problem:  # deleted since it was listed; reading it will fail with a message
            state = str(problem.errno)
        key.update(os.fsencode(f"{path}\0{state}\n"))
    return key.hexdigest()[:32]
