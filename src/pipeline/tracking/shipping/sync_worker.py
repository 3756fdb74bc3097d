"""The sidecar's own side: `python -m pipeline.tracking.shipping.sync_worker RUN_DIR`, with an errand on standard input.

It ships the run's journal for as long as its standard input stays open, and then what is left.
"""

import json
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import TrackingError
from pipeline.system.files import file_lock
from pipeline.tracking import journal, sync_state, tracking_uri
from pipeline.tracking.mlflow.store import MlflowStore
from pipeline.tracking.redaction import log_redacted
from pipeline.tracking.shipping.live_report import LivePage
from pipeline.tracking.shipping.run_sync import Replica, Uploads
from pipeline.tracking.sync_state import LOCK, Progress

NICENESS = 10
TICK_SECONDS = 1.0
BUSY_SECONDS = 0.1
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
PATIENCE_SECONDS = 3_600.0
BUSY = 3  # exit code: the run's lock is taken

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Errand:
    """What a sidecar is told. With `follow` it stays until the run has ended, else it ships what there is and goes.

    Once its standard input is closed it gives up when the store has not answered for `patience_seconds`. Where another
    carrier is at work it waits `lock_seconds` for its end, None for ever.
    """

    uri: str
    artifacts: str | None
    on_model: list[str] | None
    follow: bool = True
    patience_seconds: float = PATIENCE_SECONDS
    lock_seconds: float | None = None
    on_validation: list[str] | None = None


class Pipe:
    """From the process that started us: an errand in one line, and an end when that process lets go or dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.is_closed = False

    def errand(self) -> Errand:
        line = b""
        while not line.endswith(b"\n"):
            piece = os.read(self._descriptor, 65_536)
            if not piece:
                raise EOFError("standard input ended before it said where to ship to")
            line += piece
        return Errand(**json.loads(line))

    def pause(self, seconds: float) -> None:
        """Sleeps, and wakes when the other side goes."""
        if self.is_closed:
            time.sleep(seconds)
        elif select.select([self._descriptor], [], [], seconds)[0]:
            self.is_closed = not os.read(self._descriptor, 1)


def carry(run_dir: Path, errand: Errand, pipe: Pipe) -> None:
    """Ships until the run has ended and everything has arrived, or until patience is at its end."""
    replica: Replica | None = None
    uploads: Uploads | None = None
    live: LivePage | None = None
    pause = FIRST_PAUSE_SECONDS
    answered_at = time.monotonic()
    while True:
        try:
            if replica is None or uploads is None or live is None:
                replica = Replica(run_dir, MlflowStore(errand.uri, errand.artifacts, shared=True))
                uploads = Uploads(replica, errand.on_model)
                live = LivePage(replica, errand.on_validation)
            replica.ship()
            busy = uploads.ship_next()
            if not busy and pipe.is_closed and _is_over(replica, follow=errand.follow):
                return
            live.look()
            pause, answered_at = FIRST_PAUSE_SECONDS, time.monotonic()
            pipe.pause(BUSY_SECONDS if busy else TICK_SECONDS)
        except Exception as problem:  # whatever it is, a later try may go well, and nobody else will make it
            if not isinstance(problem, TrackingError):
                log.exception("unexpected")
            if not run_dir.exists():  # thrown away by its owner
                return
            with suppress(OSError):  # on a full disk neither this can be noted; the store may answer all the same
                _note_problem(run_dir, errand, replica, tracking_uri.redacted(str(problem)))
            if pipe.is_closed and time.monotonic() - answered_at > errand.patience_seconds:
                log.warning("giving up: `pipeline sync` ships the rest later")
                return
            pipe.pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _is_over(replica: Replica, *, follow: bool) -> bool:
    """Asked when all that could be seen is shipped and whoever started us has let go."""
    if replica.progress.status is not None:
        return True
    if journal.is_open(replica.journal):
        # The training process is about to go, or another one has resumed the run; only one that follows cares.
        return not follow
    if replica.run_id is not None and any(journal.read(replica.journal, replica.progress.offset)):
        return False  # written since we looked
    replica.mark_killed()
    return True


def _note_problem(run_dir: Path, errand: Errand, replica: Replica | None, problem: str) -> None:
    if replica is not None:
        replica.note_problem(problem)
        return
    so_far = sync_state.load(run_dir) or Progress(tracking_uri.redacted(errand.uri))
    if so_far.problem != problem:
        log.warning("%s", problem)
        sync_state.save(run_dir, replace(so_far, problem=problem))


def main(carry: Callable[[Path, Errand, Pipe], None]) -> int:
    """A process that does this for the folder that it is given, once it is the only one; the exit code."""
    run_dir = Path(sys.argv[1])
    os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_redacted()
    pipe = Pipe(sys.stdin.fileno())
    errand = pipe.errand()
    try:
        with file_lock(run_dir / LOCK, timeout_seconds=errand.lock_seconds):
            carry(run_dir, errand, pipe)
    except TimeoutError:
        return BUSY
    return 0


if __name__ == "__main__":
    sys.exit(main(carry))
