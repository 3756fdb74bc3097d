"""Files from the network: from one of several mirrors, resumed, retried, and verified before use."""

import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from pipeline.errors import DataError
from pipeline.system.files import ContentError, file_lock, read_verified, write_atomically

ATTEMPTS = 4
TIMEOUT_SECONDS = 20
MIN_BYTES_PER_SECOND = 1000
CHUNK_BYTES = 1 << 16


T = TypeVar("T")


class StoredFormat(Protocol[T]):
    """How a download is verified, and in which form it is stored."""

    @property
    def max_bytes(self) -> int:
        """The most bytes to receive."""

    def read_stored(self, path: Path) -> T:
        """Return the stored content. Raise ContentError, or OSError such as FileNotFoundError."""

    def read_download(self, file: Path) -> T:
        """Return the content of a downloaded file. Raise ContentError."""

    def store(self, path: Path, content: T) -> None:
        """Write the content atomically, over what is there."""


class SingleFile(NamedTuple):
    """One file, unpacked or (without `unpack`) as it comes; `size` (bytes) and `sha256` are of the stored file."""

    size: int
    sha256: str
    unpack: bool

    @property
    def max_bytes(self) -> int:
        return self.size + self.size // 1000 + 4096  # gzip adds at most a few bytes in 32,768

    def read_stored(self, path: Path) -> bytearray:
        return read_verified(path, **self._asdict())

    def read_download(self, file: Path) -> bytearray:
        return read_verified(file, **self._asdict())

    def store(self, path: Path, content: bytearray) -> None:
        write_atomically(path, content)


class MirrorError(Exception):
    """Why one attempt at one mirror failed, and whether another attempt may succeed."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


def download_file(
    urls: Sequence[str],
    destination: Path,
    *,
    size: int,
    sha256: str,
    remedy: str,
    unpack: bool = True,
    backoff_seconds: float = 1.0,
) -> bytearray:
    """Return the content of one file, downloaded if necessary. The files behind `urls` may be gzip or not."""
    wanted = SingleFile(size, sha256, unpack)
    return download(urls, destination, wanted, remedy=remedy, backoff_seconds=backoff_seconds)


def download(
    urls: Sequence[str], destination: Path, wanted: StoredFormat[T], *, remedy: str, backoff_seconds: float = 1.0
) -> T:
    """Return the content of `destination`, downloaded first if it is missing or not as expected.

    A part that arrived stays for the next attempt, in this process or a later one. Processes that ask at the same time
    download once. Raises DataError: what was tried, then `remedy`.
    """
    refused = ""
    try:
        try:
            return wanted.read_stored(destination)
        except FileNotFoundError:
            destination.parent.mkdir(parents=True, exist_ok=True)
        except ContentError as error:
            refused = f"{destination} {error}.\n"
            print(f"{refused}Downloading it anew.", file=sys.stderr)
        with file_lock(destination.with_name(f".{destination.name}.lock")):
            try:  # another process may have been faster
                return wanted.read_stored(destination)
            except (FileNotFoundError, ContentError):
                content = _from_mirrors(urls, destination, wanted, backoff_seconds)
            wanted.store(destination, content)
            for part in destination.parent.glob(f".{destination.name}.*.part"):
                part.unlink()
            return content
    except OSError as error:
        raise DataError(
            f"{destination} cannot be used: {error.strerror or error}. Make room, give permission, or set "
            f"XDG_CACHE_HOME to another folder.\n{remedy}"
        ) from error
    except MirrorError as error:
        raise DataError(f"{refused}{destination.name} could not be downloaded:\n{error}\n{remedy}") from error


def _from_mirrors(urls: Sequence[str], destination: Path, wanted: StoredFormat[T], backoff_seconds: float) -> T:
    """Ask one mirror after the other, each several times. Raise MirrorError with the answer of each."""
    answers = []
    for url in urls:
        mark = hashlib.sha256(url.encode()).hexdigest()[:8]  # compressed bytes differ between mirrors
        part = destination.with_name(f".{destination.name}.{mark}.part")
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return _from_mirror(url, part, wanted)
            except MirrorError as failure:
                if not failure.again or attempt == ATTEMPTS:
                    answers.append(f"  {url} {failure}")
                    break
            time.sleep(backoff_seconds * 2 ** (attempt - 1))
    raise MirrorError("\n".join(answers), again=False)


def _from_mirror(url: str, part: Path, wanted: StoredFormat[T]) -> T:
    """Make one attempt. Received bytes stay in `part`, unless the content is wrong."""
    kept = part.stat().st_size if part.exists() else 0
    try:
        _receive(url, part, kept, limit=wanted.max_bytes)
        return wanted.read_download(part)
    except ContentError as error:
        part.unlink(missing_ok=True)
        # A resumed file may be stitched together from two versions: that deserves one fresh attempt.
        raise MirrorError(str(error), again=kept > 0) from error


def _receive(url: str, part: Path, kept: int, limit: int) -> None:
    """Append the missing bytes to `part`, or start again if the server sends the whole file."""
    headers = {"User-Agent": "pipeline", "Accept-Encoding": "identity"}
    if kept > 0:
        headers["Range"] = f"bytes={kept}-"
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        error.close()
        if error.code == 416 and kept > 0:  # nothing is missing, or too much is there: the digest will tell
            return
        again = error.code >= 500 or error.code in (408, 429)
        raise MirrorError(f"answered {error.code} {error.reason}", again=again) from error
    except URLError as error:  # no name, no route, refused: asking again at once changes nothing
        raise MirrorError(f"cannot be reached: {error.reason}", again=False) from error
    except (OSError, HTTPException) as error:
        raise MirrorError(f"broke off: {str(error) or type(error).__name__}", again=True) from error
    with response:
        start = kept if response.headers.get("Content-Range", "").startswith(f"bytes {kept}-") else 0
        total = None if response.length is None else start + response.length
        have = start
        with _progress(url, total) as show, part.open("ab" if start > 0 else "wb") as file:
            for block in _blocks(response):
                have += len(block)
                if have > limit:
                    raise ContentError(f"is longer than the {limit:,} bytes expected at most")
                file.write(block)
                show(have)
    if total is not None and have < total:
        raise MirrorError(f"broke off after {have:,} of {total:,} bytes", again=True)


def _blocks(response: HTTPResponse) -> Iterator[bytes]:
    """Yield blocks of the answer; separate from the writing, so that OSErrors of network and disk stay apart."""
    began, have = time.monotonic(), 0
    try:
        while block := response.read1(CHUNK_BYTES):
            yield block
            have += len(block)
            seconds = time.monotonic() - began
            if seconds > TIMEOUT_SECONDS and have < MIN_BYTES_PER_SECOND * seconds:  # a byte now and then
                raise MirrorError(f"sent but {have:,} bytes in {seconds:.0f} s", again=True)
    except (OSError, HTTPException) as error:
        raise MirrorError(f"broke off: {str(error) or type(error).__name__}", again=True) from error


@contextmanager
def _progress(url: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal, else one line, on stderr. Yield the function that takes the received bytes."""
    name = url.rsplit("/", 1)[-1]
    if not sys.stderr.isatty():
        print(f"Downloading {url}" + (f" ({total / 1e6:.1f} MB)" if total else ""), file=sys.stderr)
        yield lambda have: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=total)
        yield lambda have: progress.update(task, completed=have)
