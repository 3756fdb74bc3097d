"""Where the trials of a search are kept: a journal file in its directory, or PostgreSQL for many machines.

Both tell who is still at work (`beat`, `is_silent`), and let one of many processes do what only one may (`held`).
"""

import errno
import hashlib
import io
import json
import os
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.study import Study
from optuna.trial import FrozenTrial

from pipeline.errors import RunError
from pipeline.search.optuna_private import database_of, id_of, stale_trial_ids
from pipeline.system.files import file_lock

STUDY = "study.log"
TRIALS = "trials"
BEAT = ".alive"  # in a trial's directory: its worker touches it
CLOCK = ".clock"  # touched to learn what time it is where the files are, which need not be the time here
STALE_LOCK_SECONDS = 5  # after that long whoever holds the journal's lock was killed
BEAT_SECONDS = 5
SILENT_SECONDS = 60  # a worker of another machine that is not heard of for so long is dead
PATIENCE_SECONDS = 120.0  # with a database that does not answer
PAUSE_SECONDS = 1.0
TAIL_BYTES = 4096
UNREACHABLE = (sqlalchemy.exc.SQLAlchemyError, StorageInternalError)

T = TypeVar("T")


class StudyLost(RunError):
    """The file of the trials is gone, or is not what it was."""


class WholeLines(JournalFileBackend):
    """Optuna's file, but a line that a full disk (or a kill) cut short is taken back: Optuna could never read on.

    Raises StudyLost for a file that was deleted, cut, replaced or overwritten since it was opened.
    """

    def __init__(self, path: str, lock: Any) -> None:
        super().__init__(path, lock_obj=lock)
        self.path, self.lock = Path(path), lock
        self.identity, self.seen = self.path.stat().st_ino, 0

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        self._check()
        with self.path.open("rb", buffering=0) as file:
            size = _whole(file)
        try:
            yield from super().read_logs(log_number_from)
        except ValueError as problem:
            raise self._lost(f"holds a line that is none of a study ({problem})") from problem
        self.seen = size

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        self._check()
        with ExitStack() as stack:
            self.lock.acquire()
            stack.callback(self.lock.release)
            file = stack.enter_context(self.path.open("r+b", buffering=0))
            size = _whole(file)
            file.truncate(size)
            file.seek(size)
            try:
                if file.write(lines) < len(lines):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise

    def _check(self) -> None:
        try:
            found = self.path.stat()
        except OSError as problem:
            raise self._lost(f"is gone ({problem.strerror})") from problem
        if found.st_ino != self.identity or found.st_size < self.seen:
            raise self._lost("is not what it was: it was cut, or another one is in its place")

    def _lost(self, what: str) -> StudyLost:
        if not self.path.parent.exists():
            return StudyLost(f"{self.path.parent} is gone, and with it the search; its runs so far are in MLflow alone")
        return StudyLost(
            f"{self.path} {what}, so it is not known which trials there were. What each scored is in "
            f"{self.path.parent / TRIALS}; put the file back, or begin another search with another name="
        )


def _whole(file: io.FileIO) -> int:
    """The size of the file without what follows its last line."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(end - TAIL_BYTES, 0)
        file.seek(start)
        last = (file.read(end - start) or b"").rfind(b"\n")
        if last >= 0:
            return start + last + 1
        end = start
    return 0


def open_storage(address: str | None, folder: Path) -> BaseStorage:
    """`address`: postgresql://USER@HOST/DATABASE, or None for the journal file. Raises RunError for a database that
    cannot be had."""
    if address is None:
        path = str(folder / STUDY)
        return JournalStorage(WholeLines(path, JournalFileSymlinkLock(path, grace_period=STALE_LOCK_SECONDS)))
    url = sqlalchemy.make_url(address).set(drivername="postgresql+psycopg")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return _database_at(url)
    except (*UNREACHABLE, ImportError) as problem:
        raise RunError(f"search.storage={address}: {_in_words(problem)}") from problem


def check_complete(folder: Path) -> None:
    """Raises StudyLost where there are trials whose study knows of none: new ones would be mixed up with them."""
    if any((folder / TRIALS).glob("*")):
        raise StudyLost(
            f"{folder / STUDY} (or the database) knows of no trial, and {folder / TRIALS} holds some: put back what it "
            "was, or begin another search with another name="
        )


def _database_at(url: sqlalchemy.URL) -> RDBStorage:
    # Every process has connections of its own, and a database that was restarted has forgotten them.
    return RDBStorage(
        url.render_as_string(hide_password=False),
        engine_kwargs={"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}},
        heartbeat_interval=BEAT_SECONDS,
        grace_period=SILENT_SECONDS,
    )


def is_shared(study: Study) -> bool:
    """Among machines that need not have any files in common."""
    return database_of(study) is not None


def forget_connections(study: Study) -> None:
    """After a fork, in the child: they are the parent's."""
    database = database_of(study)
    if database is not None:
        database.engine.dispose(close=False)


def beat(study: Study, folder: Path, trial_id: int, number: int) -> None:
    """The worker of this trial is alive. A beat that cannot be given is left out."""
    database = database_of(study)
    if database is not None:
        with suppress(*UNREACHABLE):
            database.record_heartbeat(trial_id)
        return
    with suppress(OSError):
        path = folder / TRIALS / f"{number:04}" / BEAT
        path.parent.mkdir(exist_ok=True)
        path.touch()


def is_silent(study: Study, folder: Path, trial: FrozenTrial) -> bool:
    """Whether the worker of this trial, on whatever machine, has given no beat for SILENT_SECONDS."""
    database = database_of(study)
    if database is not None:
        return id_of(trial) in stale_trial_ids(study, database)
    clock, path = folder / CLOCK, folder / TRIALS / f"{trial.number:04}" / BEAT
    clock.touch()
    return not path.exists() or clock.stat().st_mtime - path.stat().st_mtime > SILENT_SECONDS


@contextmanager
def held(study: Study, folder: Path, what: str) -> Iterator[bool]:
    """Whether this process alone does `what` meanwhile, of all that work on this search. Falls with the process."""
    database = database_of(study)
    if database is not None:
        key = int.from_bytes(hashlib.sha256(f"{study.study_name} {what}".encode()).digest()[:8], signed=True)
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            free = connection.execute(sqlalchemy.text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar()
            try:
                yield bool(free)
            finally:
                if free:  # the connection goes back to the pool and lives on
                    with suppress(*UNREACHABLE):
                        connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:key)"), {"key": key})
        return
    with held_in(folder, what) as free:
        yield free


@contextmanager
def held_in(folder: Path, what: str) -> Iterator[bool]:
    """The same, of those that work in this folder."""
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(folder / f".{what}.lock", timeout_seconds=0))
        except TimeoutError:
            free = False
        else:
            free = True
        yield free


class Turn:
    """What one of many processes does until it ends, and then another one: asked for again and again."""

    def __init__(self, take: Callable[[], AbstractContextManager[bool]]) -> None:
        self._take = take
        self._held: AbstractContextManager[bool] | None = None
        self._tried_at = 0.0

    def is_mine(self, *, at_once: bool = False) -> bool:
        if self._held is None and (at_once or time.monotonic() - self._tried_at > BEAT_SECONDS):
            self._tried_at, attempt = time.monotonic(), self._take()
            try:
                won = attempt.__enter__()
            except UNREACHABLE:  # a database that is being restarted: asked again later
                return False
            if won:
                self._held = attempt
            else:
                attempt.__exit__(None, None, None)
        return self._held is not None

    def give_back(self) -> None:
        if self._held is not None:
            self._held.__exit__(None, None, None)
            self._held = None


def patiently(call: Callable[[], T]) -> T:
    """Its answer, once there is one: a database may be restarted. Raises RunError after PATIENCE_SECONDS."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return call()
        except UNREACHABLE as problem:
            if time.monotonic() > deadline:
                raise RunError(f"the database of the search does not answer: {_in_words(problem)}") from problem
        time.sleep(PAUSE_SECONDS)


def _in_words(problem: Exception) -> str:
    cause: BaseException = problem
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, ImportError):
        return "PostgreSQL needs a package that is not installed: pip install 'psycopg[binary]>=3.2'"
    return str(cause).strip().replace("\n", " ")
