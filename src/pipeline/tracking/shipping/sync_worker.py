"""The sidecar process: `python -m pipeline.tracking.shipping.sync_worker RUN_DIR`, with a job on standard input.

It sends the run's journal to MLflow for as long as its standard input stays open, and then what is left.
"""

import json
import logging
import os
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from pipeline.errors import TrackingError
from pipeline.system.files import file_lock
from pipeline.tracking import journal, sync_state, tracking_uri
from pipeline.tracking.mlflow.store import MlflowStore
from pipeline.tracking.shipping.run_sync import LiveReport, RunSync, Uploads
from pipeline.tracking.shipping.sync_trials import SearchSync
from pipeline.tracking.sync_state import LOCK, SyncProgress
from pipeline.tracking.tracking_uri import log_to_stderr_redacted

NICENESS = 10
IDLE_PAUSE_SECONDS = 1.0
BUSY_PAUSE_SECONDS = 0.1
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 30.0
PATIENCE_SECONDS = 3_600.0
BUSY = 3  # exit code: the run's lock is taken

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SyncJob:
    """What a sidecar is asked to do.

    With `follow` it stays until the run has ended, else it sends what there is and ends. Once its standard input is
    closed it gives up when the store has not answered for `patience_seconds`. Where another sidecar is at work it
    waits `lock_seconds` for its end, None for ever. With `trials` the runs in the folder's trials/ belong to it.
    """

    uri: str
    artifacts: str | None
    on_model: list[str] | None
    follow: bool = True
    patience_seconds: float = PATIENCE_SECONDS
    lock_seconds: float | None = None
    on_validation: list[str] | None = None
    trials: bool = False


class ParentPipe:
    """The pipe from the process that started this one: a job in one line, and an end when that process lets go."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.is_closed = False

    def read_job(self) -> SyncJob:
        line = b""
        while not line.endswith(b"\n"):
            piece = os.read(self._descriptor, 65_536)
            if not piece:
                raise EOFError("standard input ended before it said where to send the run")
            line += piece
        return SyncJob(**json.loads(line))

    def pause(self, seconds: float) -> None:
        """Sleep, and wake when the other side closes."""
        if self.is_closed:
            time.sleep(seconds)
        elif select.select([self._descriptor], [], [], seconds)[0]:
            self.is_closed = not os.read(self._descriptor, 1)


class SyncTask(Protocol):
    """What a sidecar repeats until it is done."""

    def step(self, *, parent_is_gone: bool) -> Literal["idle", "busy", "done"]:
        """Send what is new. Raises TrackingError when the store does not answer."""

    def save_problem(self, problem: str) -> None: ...


class RunTask:
    """Sends one run with its files, its model and its live report."""

    remedy = "`pipeline sync` sends the rest later"

    def __init__(self, run_dir: Path, job: SyncJob) -> None:
        self.sync = RunSync(run_dir, MlflowStore(job.uri, job.artifacts, shared=True))
        self.uploads = Uploads(self.sync, job.on_model)
        self.live_report = LiveReport(self.sync, job.on_validation)
        self.follow = job.follow

    def step(self, *, parent_is_gone: bool) -> Literal["idle", "busy", "done"]:
        self.sync.send_new()
        is_busy = self.uploads.send_next()
        if not is_busy and parent_is_gone and self._is_over():
            return "done"
        self.live_report.update()
        return "busy" if is_busy else "idle"

    def save_problem(self, problem: str) -> None:
        self.sync.save_problem(problem)

    def _is_over(self) -> bool:
        """Decide, when everything visible is sent and the parent process has let go, whether more can come."""
        if self.sync.progress.status is not None:
            return True
        if journal.is_open(self.sync.journal):
            # The training process is about to end, or another one has resumed the run; only one that follows cares.
            return not self.follow
        if self.sync.run_id is not None and any(journal.read_journal(self.sync.journal, self.sync.progress.offset)):
            return False  # written since we looked
        self.sync.mark_killed()
        return True


class SearchTask:
    """Sends a search and its trials."""

    remedy = "the same search, continued, sends the rest"

    def __init__(self, folder: Path, job: SyncJob) -> None:
        self.sync = SearchSync(folder, MlflowStore(job.uri, job.artifacts, shared=True))

    def step(self, *, parent_is_gone: bool) -> Literal["idle", "busy", "done"]:
        if self.sync.send_new() or parent_is_gone:
            self.sync.conclude()
            return "done"
        return "idle"

    def save_problem(self, problem: str) -> None:
        self.sync.parent.save_problem(problem)


def send_until_done(folder: Path, job: SyncJob, pipe: ParentPipe) -> None:
    """Send the run or search until it has ended and everything has arrived, or until patience is exhausted."""
    kind = SearchTask if job.trials else RunTask
    task: SyncTask | None = None
    pause = FIRST_PAUSE_SECONDS
    answered_at = time.monotonic()
    while True:
        try:
            if task is None:
                task = kind(folder, job)
            state = task.step(parent_is_gone=pipe.is_closed)
            if state == "done":
                return
            pause, answered_at = FIRST_PAUSE_SECONDS, time.monotonic()
            pipe.pause(BUSY_PAUSE_SECONDS if state == "busy" else IDLE_PAUSE_SECONDS)
        except Exception as problem:  # whatever it is, a later attempt may succeed, and nobody else will make it
            if not isinstance(problem, TrackingError):
                log.exception("unexpected")
            if not folder.exists():  # deleted by its owner
                return
            with suppress(OSError):  # on a full disk this cannot be saved either; the store may answer all the same
                _save_problem(folder, job, task, tracking_uri.redact(str(problem)))
            if job.trials:
                task = None  # a parent run that is gone makes every trial new
            if pipe.is_closed and time.monotonic() - answered_at > job.patience_seconds:
                log.warning("giving up: %s", kind.remedy)
                return
            pipe.pause(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)


def _save_problem(folder: Path, job: SyncJob, task: SyncTask | None, problem: str) -> None:
    if task is not None:
        task.save_problem(problem)
        return
    progress = sync_state.load_progress(folder) or SyncProgress(tracking_uri.redact(job.uri))
    if progress.problem != problem:
        log.warning("%s", problem)
        sync_state.save_progress(folder, replace(progress, problem=problem))


def main() -> int:
    """Do the job for the folder on the command line, once this is its only sidecar; return the exit code."""
    folder = Path(sys.argv[1])
    os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_to_stderr_redacted()
    pipe = ParentPipe(sys.stdin.fileno())
    job = pipe.read_job()
    try:
        with file_lock(folder / LOCK, timeout_seconds=job.lock_seconds):
            send_until_done(folder, job, pipe)
    except TimeoutError:
        return BUSY
    return 0


if __name__ == "__main__":
    sys.exit(main())
