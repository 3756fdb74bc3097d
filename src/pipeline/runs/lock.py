"""The lock that every writer of a run directory takes before it reads anything there. No torch here.

It is an exclusive flock on a file in the directory. The training processes inherit the open file, so the lock lasts as
long as any of them, also when only the process that the user started was killed. The kernel releases it with the last
of them; the contents of the file never keep anybody out. Readers take no lock.
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
TOKEN_VARIABLE = "PIPELINE_LOCK"  # tells child processes that their parent holds the lock for them
TRAINED = "trained"
LIVE_HOLDER_TIMEOUT_SECONDS = 0.4  # to send a report takes no longer
ORPHANS_TIMEOUT_SECONDS = 20.0  # processes that lost their parent notice it and save
CLUSTER_TIMEOUT_SECONDS = 240.0  # of the first process of a cluster's job, for which the others wait 300
MAX_HOLDER_BYTES = 1000

log = logging.getLogger(__name__)


class RunLockedError(RunError):
    """Another process writes in the run directory."""


@dataclass(frozen=True)
class LockHolder:
    """The process that holds a lock.

    born  its start time, because process numbers are used again
    work  what it does with the run: "trained", "evaluated"
    """

    token: str
    pid: int
    born: float
    host: str
    work: str
    since: str

    @property
    def is_on_this_host(self) -> bool:
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether the process runs; False for one on another host, which cannot be checked."""
        if not self.is_on_this_host:
            return False
        with suppress(psutil.Error, ValueError):
            running = psutil.Process(self.pid)
            return running.create_time() == self.born and running.status() != psutil.STATUS_ZOMBIE
        return False


@contextmanager
def run_lock(folder: Path, work: str, *, is_cluster_job: bool = False) -> Iterator[None]:
    """Hold the lock of the run directory. Raises RunLockedError if another process holds it.

    Only a cluster job waits long for a live holder. If the holder has ended and only its child processes are left, all
    callers wait for those: a scheduler that repeats a command at once must not be refused. Where no lock is possible
    (a read-only directory, a file system without locks) the work goes on without one.
    """
    descriptor = _acquire(folder, is_cluster_job=is_cluster_job)
    if descriptor is None:
        yield
        return
    outer_token, token = os.environ.get(TOKEN_VARIABLE), secrets.token_hex(8)
    _write_holder(descriptor, token, work)
    os.environ[TOKEN_VARIABLE] = token
    process.INHERITED_FILES.add(descriptor)
    try:
        yield
    finally:
        process.INHERITED_FILES.discard(descriptor)
        os.environ.pop(TOKEN_VARIABLE)
        if outer_token is not None:
            os.environ[TOKEN_VARIABLE] = outer_token
        os.close(descriptor)


def _acquire(folder: Path, *, is_cluster_job: bool) -> int | None:
    """Return the descriptor that holds the lock; None if no lock is possible, or if a parent process holds it."""
    started_at, is_announced = time.monotonic(), False
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
            os.close(descriptor)  # the run was discarded meanwhile
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
        waited = time.monotonic() - started_at
        if waited > (CLUSTER_TIMEOUT_SECONDS if is_cluster_job else _timeout_seconds(holder)):
            raise RunLockedError(_locked_message(folder, holder))
        if waited > LIVE_HOLDER_TIMEOUT_SECONDS and not is_announced:
            print(f"waiting: {_locked_message(folder, holder)}", file=sys.stderr, flush=True)
            is_announced = True
        time.sleep(POLL_SECONDS)


def _open(path: Path) -> int:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o666)
    except PermissionError:  # the file of another user, in a folder that both may write to
        return os.open(path, os.O_RDONLY | flags)


def _timeout_seconds(holder: LockHolder | None) -> float:
    return LIVE_HOLDER_TIMEOUT_SECONDS if holder is not None and holder.is_alive else ORPHANS_TIMEOUT_SECONDS


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
    except OSError as problem:  # a full disk: the message to those who are refused is shorter
        log.info("the holder of the lock cannot be recorded: %s", problem.strerror)


def _read_holder(descriptor: int) -> LockHolder | None:
    """Return None if the file does not name a holder, or not yet completely."""
    try:
        record = json.loads(os.pread(descriptor, MAX_HOLDER_BYTES, 0))
        return LockHolder(
            token=str(record["token"]),
            pid=int(record["pid"]),
            born=float(record["born"]),
            host=str(record["host"]),
            work=str(record["work"]),
            since=str(record["since"]),
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _locked_message(folder: Path, holder: LockHolder | None) -> str:
    if holder is None:
        return f"another process writes in {folder} right now; wait until it has ended"
    who = f"process {holder.pid} on {holder.host}, since {holder.since}"
    if holder.is_on_this_host and not holder.is_alive:
        return (
            f"{folder.name} is still being {holder.work} by child processes of {who}: that process has ended, its "
            f"children have not; to see them: fuser {folder / LOCK_FILE}"
        )
    remedy = f"pipeline cancel {folder.name}" if holder.work == TRAINED else f"kill {holder.pid}"
    return f"{folder.name} is being {holder.work} right now, by {who}; wait for it, or end it first: {remedy}"
