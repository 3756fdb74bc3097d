"""The storage of a search's trials: a journal file in its directory, or PostgreSQL for many machines.

Both have heartbeats, which say whose worker is alive, and locks, by which one of many processes does what only one may.
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
from pipeline.search.optuna_private import stale_trial_ids, study_database, trial_id_of
from pipeline.system.files import file_lock

STUDY_FILE = "study.log"
TRIALS_FOLDER = "trials"
HEARTBEAT_FILE = ".alive"  # in a trial's directory: its worker touches it
CLOCK_FILE = ".clock"  # touched to read the clock of the file system, which may differ from the one here
STALE_LOCK_SECONDS = 5  # a process that holds the journal's lock for longer was killed
HEARTBEAT_SECONDS = 5
STALE_SECONDS = 60  # a worker of another machine without a heartbeat for so long is dead
RETRY_TIMEOUT_SECONDS = 120.0  # for a database that does not answer
RETRY_PAUSE_SECONDS = 1.0
TAIL_BYTES = 4096
DATABASE_ERRORS = (sqlalchemy.exc.SQLAlchemyError, StorageInternalError)

T = TypeVar("T")


class StudyLost(RunError):
    """The file of the trials is gone, or was replaced or cut."""


class RepairingFileBackend(JournalFileBackend):
    """Optuna's journal file, which also survives a full disk or a kill in the middle of a line.

    An incomplete last line is removed before the next write; Optuna could not read beyond it. Raises StudyLost for a
    file that was deleted, cut, replaced or overwritten since it was opened.
    """

    def __init__(self, path: str, lock: Any) -> None:
        super().__init__(path, lock_obj=lock)
        self.path, self.lock = Path(path), lock
        self.inode, self.size_read = self.path.stat().st_ino, 0

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        self._check()
        with self.path.open("rb", buffering=0) as file:
            size = _size_of_whole_lines(file)
        try:
            yield from super().read_logs(log_number_from)
        except ValueError as problem:
            raise self._lost(f"holds a line that is not part of a study ({problem})") from problem
        self.size_read = size

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        self._check()
        with ExitStack() as stack:
            self.lock.acquire()
            stack.callback(self.lock.release)
            file = stack.enter_context(self.path.open("r+b", buffering=0))
            size = _size_of_whole_lines(file)
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
            status = self.path.stat()
        except OSError as problem:
            raise self._lost(f"is gone ({problem.strerror})") from problem
        if status.st_ino != self.inode or status.st_size < self.size_read:
            raise self._lost("was cut or replaced")

    def _lost(self, what: str) -> StudyLost:
        if not self.path.parent.exists():
            return StudyLost(f"{self.path.parent} is gone, and the search with it; its runs so far are only in MLflow")
        return StudyLost(
            f"{self.path} {what}, so the list of trials is lost. Their results are in "
            f"{self.path.parent / TRIALS_FOLDER}; put the file back, or begin another search with another name="
        )


def _size_of_whole_lines(file: io.FileIO) -> int:
    """Return the size of the file up to the end of its last complete line."""
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
    """Open postgresql://USER@HOST/DATABASE, or the journal file for None. Raises RunError without a connection."""
    if address is None:
        path = str(folder / STUDY_FILE)
        return JournalStorage(RepairingFileBackend(path, JournalFileSymlinkLock(path, grace_period=STALE_LOCK_SECONDS)))
    url = sqlalchemy.make_url(address).set(drivername="postgresql+psycopg")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return _open_database(url)
    except (*DATABASE_ERRORS, ImportError) as problem:
        raise RunError(f"search.storage={address}: {_describe(problem)}") from problem


def trial_directory(folder: Path, number: int) -> Path:
    return folder / TRIALS_FOLDER / f"{number:04}"


def check_complete(folder: Path) -> None:
    """Raise StudyLost where an empty study has trial directories: new trials would be mixed up with them."""
    if any((folder / TRIALS_FOLDER).glob("*")):
        raise StudyLost(
            f"{folder / STUDY_FILE} (or the database) has no trials, but {folder / TRIALS_FOLDER} holds some: put the "
            "original back, or begin another search with another name="
        )


def _open_database(url: sqlalchemy.URL) -> RDBStorage:
    # pool_pre_ping: a database that was restarted has closed the connections of the pool.
    return RDBStorage(
        url.render_as_string(hide_password=False),
        engine_kwargs={"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}},
        heartbeat_interval=HEARTBEAT_SECONDS,
        grace_period=STALE_SECONDS,
    )


def drop_inherited_connections(study: Study) -> None:
    """Forget, in a forked process, the connections that belong to its parent."""
    database = study_database(study)
    if database is not None:
        database.engine.dispose(close=False)


def record_heartbeat(study: Study, folder: Path, trial_id: int, number: int) -> None:
    """Note that the worker of this trial is alive; skipped where nothing can be written."""
    database = study_database(study)
    if database is not None:
        with suppress(*DATABASE_ERRORS):
            database.record_heartbeat(trial_id)
        return
    with suppress(OSError):
        path = trial_directory(folder, number) / HEARTBEAT_FILE
        path.parent.mkdir(exist_ok=True)
        path.touch()


def is_stale(study: Study, folder: Path, trial: FrozenTrial) -> bool:
    """Return whether the worker of this trial, on whatever machine, has sent no heartbeat for STALE_SECONDS."""
    database = study_database(study)
    if database is not None:
        return trial_id_of(trial) in stale_trial_ids(study, database)
    clock, path = folder / CLOCK_FILE, trial_directory(folder, trial.number) / HEARTBEAT_FILE
    clock.touch()
    return not path.exists() or clock.stat().st_mtime - path.stat().st_mtime > STALE_SECONDS


@contextmanager
def try_lock_study(study: Study, folder: Path, name: str) -> Iterator[bool]:
    """Yield whether this process holds the lock `name`, of all processes of this search; the lock ends with it."""
    database = study_database(study)
    if database is not None:
        key = int.from_bytes(hashlib.sha256(f"{study.study_name} {name}".encode()).digest()[:8], signed=True)
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            is_locked = connection.execute(sqlalchemy.text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar()
            try:
                yield bool(is_locked)
            finally:
                if is_locked:  # the connection goes back to the pool and stays open
                    with suppress(*DATABASE_ERRORS):
                        connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:key)"), {"key": key})
        return
    with try_lock_folder(folder, name) as is_locked:
        yield is_locked


@contextmanager
def try_lock_folder(folder: Path, name: str) -> Iterator[bool]:
    """Yield whether this process holds the lock `name`, of all processes in this folder."""
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(folder / f".{name}.lock", timeout_seconds=0))
        except TimeoutError:
            is_locked = False
        else:
            is_locked = True
        yield is_locked


class LeaderLock:
    """A lock that one of many processes holds until it ends; the others try again and again."""

    def __init__(self, try_lock: Callable[[], AbstractContextManager[bool]]) -> None:
        self._try_lock = try_lock
        self._held: AbstractContextManager[bool] | None = None
        self._tried_at = 0.0

    def acquire(self, *, at_once: bool = False) -> bool:
        """Return whether this process holds it; tries every HEARTBEAT_SECONDS, or `at_once`."""
        if self._held is None and (at_once or time.monotonic() - self._tried_at > HEARTBEAT_SECONDS):
            self._tried_at, attempt = time.monotonic(), self._try_lock()
            try:
                is_locked = attempt.__enter__()
            except DATABASE_ERRORS:  # the database restarts; tried again later
                return False
            if is_locked:
                self._held = attempt
            else:
                attempt.__exit__(None, None, None)
        return self._held is not None

    def release(self) -> None:
        if self._held is not None:
            self._held.__exit__(None, None, None)
            self._held = None


def with_retry(call: Callable[[], T]) -> T:
    """Call until the database answers: it may be restarting. Raises RunError after RETRY_TIMEOUT_SECONDS."""
    deadline = time.monotonic() + RETRY_TIMEOUT_SECONDS
    while True:
        try:
            return call()
        except DATABASE_ERRORS as problem:
            if time.monotonic() > deadline:
                raise RunError(f"the database of the search does not answer: {_describe(problem)}") from problem
        time.sleep(RETRY_PAUSE_SECONDS)


def _describe(problem: Exception) -> str:
    cause: BaseException = problem
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, ImportError):
        return "PostgreSQL needs a package that is not installed: pip install 'psycopg[binary]>=3.2'"
    return str(cause).strip().replace("\n", " ")
