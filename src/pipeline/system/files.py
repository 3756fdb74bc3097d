"""Files that are whole or not there: atomic writes, locks, content that is what it should be."""

import fcntl
import gzip
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

GZIP_MAGIC = b"\x1f\x8b"
POLL_SECONDS = 0.05
CHUNK_BYTES = 1 << 20
TEMPORARY_PREFIX, LOCK_NAME = "pipeline-", ".held"  # how a folder's name begins, and its lock file
MAX_BYTES = 64 << 20  # of a file that is read as a whole and of which nobody knows how large it ought to be


class ContentError(Exception):
    """A file's content is not what was promised. The message completes "<file> ..."."""


def write_atomically(path: Path, data: bytes | bytearray | str) -> None:
    """Readers see the old content or the new, never a part of it, even after a power cut.

    A str is written as UTF-8 with its line ends as they are. On any error the old file stays as it was.
    """
    content = data.encode() if isinstance(data, str) else data
    # In the same folder, because os.replace is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_folder(folder: Path, contents: Mapping[str, bytes | bytearray]) -> None:
    """Replace a folder by one with exactly these files: readers see all of them, or none.

    After a power cut a file may be empty: what is read has to be verified.
    """
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir()
        for name, content in contents.items():
            (temporary / name).write_bytes(content)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk: a new name survives a power cut only after this."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_inside(folder: Path, path: Path | str) -> IO[bytes]:
    """Open a plain file in `folder` or below it for reading. `path` is relative to `folder`, or absolute.

    What names it may be anybody's: links count as far as they stay inside. Raises ContentError for what leads out, or
    is no plain file; FileNotFoundError and other OSErrors as `open` does.
    """
    try:
        root = folder.resolve(strict=True)
        real = (root / path).resolve(strict=True)
    except (RuntimeError, ValueError) as problem:  # a link to itself; a NUL in a name
        raise ContentError(f"leads nowhere ({problem})") from problem
    if not real.is_relative_to(root):
        raise ContentError(f"leads out of {root}, to {real}")
    # From folder to folder, through no link that was put there meanwhile: what was checked is what is opened.
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for part in real.relative_to(root).parts:
        try:
            inner = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)  # nobody waits for a pipe
        finally:
            os.close(here)
        here = inner
    if not stat.S_ISREG(os.fstat(here).st_mode):
        os.close(here)
        raise ContentError("is no plain file")
    return open(here, "rb")


def read_inside(folder: Path, path: Path | str, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of `open_inside`. Raise ContentError also for more than `max_bytes`."""
    with open_inside(folder, path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ContentError(f"holds more than {max_bytes:,} bytes")
    return content


def open_for_append(path: Path) -> IO[bytes]:
    """Open a file for appending, creating it if necessary, but never through a link, which may lead anywhere."""
    return open(path, "ab", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))


def parse_json(content: bytes) -> Any:
    """Parse JSON. Raise ContentError for anything else."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as problem:
        if not content.strip(b"\0"):
            raise ContentError("is empty" if not content else "holds nothing but zero bytes") from problem
        raise ContentError(f"is no JSON ({problem})") from problem


@contextmanager
def file_lock(path: Path, timeout_seconds: float | None = None) -> Iterator[None]:
    """Hold an exclusive lock among processes (and threads) on the lock file `path`, made when absent.

    The lock falls with its holder, however that ends. The file stays: whoever removes a lock file lets two
    in at once. Raises TimeoutError when the lock is not free within `timeout_seconds`; None waits for ever.
    """
    with open_for_append(path) as file:
        if timeout_seconds is None:
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            _poll_lock(file.fileno(), path, timeout_seconds)
        yield  # closing the file gives the lock back


def _poll_lock(descriptor: int, path: Path, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{path} is still locked by another process after {timeout_seconds:g} s") from None
        time.sleep(POLL_SECONDS)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a temporary folder of this user. One that `kill -9` left behind is removed by the next call."""
    _remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX) as name:
        folder = Path(name)
        with (folder / secrets.token_hex(4)).open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # before it has the name by which others find it
            os.rename(file.name, folder / LOCK_NAME)
            yield folder


def _remove_abandoned(place: Path) -> None:
    """Remove this user's temporary folders whose lock is free: their process has ended."""
    for held in place.glob(f"{TEMPORARY_PREFIX}*/{LOCK_NAME}"):
        with suppress(OSError):  # another's, or one that others remove just now
            if held.parent.is_symlink() or held.parent.stat().st_uid != os.getuid():
                continue
            with open_for_append(held) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(held.parent, ignore_errors=True)


def read_verified(path: Path, *, size: int, sha256: str, unpack: bool = True) -> bytearray:
    """Return a file's content, unpacked if it begins as gzip does, unless `unpack` is false.

    `size` in bytes and `sha256` are those of the unpacked content. No more than `size` bytes are ever
    unpacked, whatever the file holds. Raises ContentError, or OSError when the file cannot be read.
    """
    with path.open("rb") as file:
        packed = unpack and file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    content = bytearray(size)
    found = 0
    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        try:
            with memoryview(content) as view:
                while count := stream.readinto(view[found : found + CHUNK_BYTES]):
                    found += count
            # Reading on to the end also lets gzip check the sum that stands there.
            longer = found == size and bool(stream.read(1))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ContentError(f"is cut off or damaged ({error})") from error
    if longer:
        raise ContentError(f"holds more than the expected {size:,} bytes")
    if found < size:
        raise ContentError(f"holds {found:,} bytes, expected {size:,}")
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise ContentError(f"has other content: SHA-256 {digest}, expected {sha256}")
    return content


def cache_folder() -> Path:
    """Return the folder for what can be downloaded again: $XDG_CACHE_HOME/pipeline, else ~/.cache/pipeline."""
    return _own_folder("XDG_CACHE_HOME", "~/.cache")


def state_folder() -> Path:
    """Return the folder for what cannot be downloaded again: $XDG_STATE_HOME/pipeline, else ~/.local/state/pipeline."""
    return _own_folder("XDG_STATE_HOME", "~/.local/state")


def _own_folder(variable: str, default: str) -> Path:
    named = os.environ.get(variable, "")
    # "All paths must be absolute. [Else] consider the path invalid and ignore it." (XDG Base Directory, 0.8)
    return (Path(named) if os.path.isabs(named) else Path(os.path.expanduser(default))) / "pipeline"
