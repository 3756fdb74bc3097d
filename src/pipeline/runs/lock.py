"""One lock for whoever writes in a run directory, taken before the first look at it. No torch in here.

It is an exclusive flock on a file there. The processes that train inherit the open file, so that the lock lives as
long as anything of that training does, also when only the process that a user started was killed. It falls with the
last of them: what is left of it in the file never keeps anybody out. Who only reads takes none.
"""

import fcntl
import json
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from pipeline.errors import RunError
from pipeline.system import process
from pipeline.system.files import POLL_SECONDS

LOCK_FILE = ".lock"
TOKEN_VARIABLE = "PIPELINE_LOCK"  # tells those below a holder that the lock is theirs, too
TRAINED = "trained"
LIVE_HOLDER_TIMEOUT_SECONDS = 0.4  # a report that is being sent takes no longer; else the holder is not waited for
ORPHANS_TIMEOUT_SECONDS = 20.0  # processes that lost their parent notice it and save
CLUSTER_TIMEOUT_SECONDS = 240.0  # of the first process of a cluster's job, for which the others wait 300
MAX_HOLDER_BYTES = 1000

log = logging.getLogger(__name__)


class RunLockedError(RunError):
    """Another process writes in the run directory."""


@dataclass(frozen=True)
class LockHolder:
    """`born` is when the process began, by which it is told from a later one with its number; `work` is what becomes
    of the run: "trained", "evaluated"."""

    token: str
    pid: int
    born: float
    host: str
    work: str
    since: str

    @property
    def is_here(self) -> bool:
        return self.host == socket.gethostname()

    @property
    def lives(self) -> bool:
        """As far as it can be known from this machine."""
        if not self.is_here:
            return False
        with suppress(psutil.Error, ValueError):
            found = psutil.Process(self.pid)
            return found.create_time() == self.born and found.status() != psutil.STATUS_ZOMBIE
        return False


@contextmanager
def run_lock(folder: Path, work: str, *, is_patient: bool = False) -> Iterator[None]:
    """Nobody else writes in the run directory meanwhile. Raises Held where somebody does.

    A live holder is not waited for, unless by who `is_patient`. One of which only the processes that it started are
    left is: a scheduler that repeats a command at once must not be refused. Where there can be no lock (a read-only
    directory, a file system without locks) the work goes on without one.
    """
    descriptor = _acquire(folder, is_patient=is_patient)
    if descriptor is None:
        yield
        return
    before, token = os.environ.get(TOKEN_VARIABLE), secrets.token_hex(8)
    _write_holder(descriptor, token, work)
    os.environ[TOKEN_VARIABLE] = token
    process.INHERITED_FILES.add(descriptor)
    try:
        yield
    finally:
        process.INHERITED_FILES.discard(descriptor)
        os.environ.pop(TOKEN_VARIABLE)
        if before is not None:
            os.environ[TOKEN_VARIABLE] = before
        os.close(descriptor)


def _acquire(folder: Path, *, is_patient: bool) -> int | None:
    """The descriptor that holds it; None where there can be none, and where a process above this one does."""
    began, is_told = time.monotonic(), False
    while True:
        try:
            descriptor = _open(folder / LOCK_FILE)
        except OSError as problem:
            log.info("no lock in %s: %s", folder, problem.strerror)
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same_file(descriptor, folder):
                return descriptor
            os.close(descriptor)  # of a run that was discarded meanwhile
            if not folder.exists():
                return None
            continue
        except BlockingIOError:
            holder = _read_holder(descriptor)
            os.close(descriptor)
        except OSError as problem:
            os.close(descriptor)
            log.info("no locks on %s: %s", folder, problem.strerror)
            return None
        if holder is not None and holder.token == os.environ.get(TOKEN_VARIABLE):
            return None
        waited = time.monotonic() - began
        if waited > (CLUSTER_TIMEOUT_SECONDS if is_patient else _timeout_seconds(holder)):
            raise RunLockedError(_locked_message(folder, holder))
        if waited > LIVE_HOLDER_TIMEOUT_SECONDS and not is_told:
            print(f"waiting: {_locked_message(folder, holder)}", file=sys.stderr, flush=True)
            is_told = True
        time.sleep(POLL_SECONDS)


def _open(path: Path) -> int:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o666)
    except PermissionError:  # another user's, in a folder that both may write in
        return os.open(path, os.O_RDONLY | flags)


def _timeout_seconds(holder: LockHolder | None) -> float:
    return LIVE_HOLDER_TIMEOUT_SECONDS if holder is not None and holder.lives else ORPHANS_TIMEOUT_SECONDS


def _is_same_file(descriptor: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(folder / LOCK_FILE))
    except OSError:
        return False


def _write_holder(descriptor: int, token: str, work: str) -> None:
    own = psutil.Process()
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    holder = LockHolder(token, own.pid, own.create_time(), socket.gethostname(), work, since)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)
    except OSError as problem:  # a full disk: whoever is refused hears less
        log.info("nobody will know who holds the lock: %s", problem.strerror)


def _read_holder(descriptor: int) -> LockHolder | None:
    """None for what is no note, or not yet a whole one."""
    try:
        found = json.loads(os.pread(descriptor, MAX_HOLDER_BYTES, 0))
        return LockHolder(
            token=str(found["token"]),
            pid=int(found["pid"]),
            born=float(found["born"]),
            host=str(found["host"]),
            work=str(found["work"]),
            since=str(found["since"]),
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _locked_message(folder: Path, holder: LockHolder | None) -> str:
    if holder is None:
        return f"another process writes in {folder} right now; wait until it has ended"
    who = f"process {holder.pid} on {holder.host}, since {holder.since}"
    if holder.is_here and not holder.lives:
        return (
            f"{folder.name} is still being {holder.work} by what is left of {who}: that process has ended, those that "
            f"it started have not; to see them: fuser {folder / LOCK_FILE}"
        )
    remedy = f"pipeline cancel {folder.name}" if holder.work == TRAINED else f"kill {holder.pid}"
    return f"{folder.name} is being {holder.work} right now, by {who}; wait for it, or end it first: {remedy}"
