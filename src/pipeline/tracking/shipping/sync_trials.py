"""Send a run and its children to MLflow: `python -m pipeline.tracking.shipping.sync_trials FOLDER`.

The run in FOLDER is the parent of those in FOLDER/trials. One process for all of them: a sidecar each would cost every
short trial a start.
"""

import logging
import sys
import time
from contextlib import suppress
from pathlib import Path

from pipeline.errors import TrackingError
from pipeline.tracking import journal, tracking_uri
from pipeline.tracking.mlflow.store import MlflowStore
from pipeline.tracking.shipping.run_sync import Replica, Uploads
from pipeline.tracking.shipping.sync_worker import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    TICK_SECONDS,
    Errand,
    Pipe,
    main,
)
from pipeline.tracking.sync_state import JOURNAL, load

CHILDREN = "trials"
PARENT_TAG = "mlflow.parentRunId"

log = logging.getLogger(__name__)


class Flock:
    """Raises Unavailable from `ship`, and is then to be made anew."""

    def __init__(self, folder: Path, errand: Errand) -> None:
        self.folder = folder
        self.store = MlflowStore(errand.uri, errand.artifacts, shared=True)
        self.parent = Replica(folder, self.store)
        self.files = Uploads(self.parent, None)
        self.arrived: set[Path] = set()

    def ship(self) -> bool:
        """Whatever is new by now; whether the parent has ended and nothing is left."""
        self.parent.ship()
        while self.files.ship_next():
            pass
        if self.parent.run_id is None:
            return False
        inside = self.folder.resolve()
        for path in sorted(self.folder.glob(f"{CHILDREN}/*/{JOURNAL}")):
            if not path.resolve().is_relative_to(inside):
                continue  # a link to a run elsewhere: not of this search
            if path.parent not in self.arrived and self._ship_child(path.parent, self.parent.run_id):
                self.arrived.add(path.parent)
        return self.parent.progress.status is not None

    def conclude(self) -> None:
        """Whoever wrote is gone: without an end it was killed."""
        if self.parent.progress.status is None and not journal.is_open(self.parent.journal):
            self.parent.mark_killed()

    def _ship_child(self, folder: Path, parent_id: str) -> bool:
        """Whether the child has ended and all of it is there."""
        known = load(folder)
        child = Replica(folder, self.store)
        child.ship()
        if child.run_id is None:
            return False
        if known is None or known.mlflow_run_id != child.run_id:
            self.store.set_tags(child.run_id, {PARENT_TAG: parent_id})
        files = Uploads(child, None)
        while files.ship_next():
            pass
        if child.progress.status is None and not journal.is_open(child.journal):
            if any(journal.read(child.journal, child.progress.offset)):
                return False  # written since we looked
            child.mark_killed()
        return child.progress.status is not None


def carry(folder: Path, errand: Errand, pipe: Pipe) -> None:
    """Until all has arrived, or until patience is at its end once whoever started us is gone."""
    flock: Flock | None = None
    pause, answered_at = FIRST_PAUSE_SECONDS, time.monotonic()
    while True:
        try:
            was_closed = pipe.is_closed
            flock = flock or Flock(folder, errand)
            if flock.ship() or was_closed:
                flock.conclude()
                return
            pause, answered_at = FIRST_PAUSE_SECONDS, time.monotonic()
            pipe.pause(TICK_SECONDS)
        except Exception as problem:  # whatever it is, a later try may go well
            if not isinstance(problem, TrackingError):
                log.exception("unexpected")
            if not folder.exists():
                return
            if flock is not None:
                with suppress(OSError):
                    flock.parent.note_problem(tracking_uri.redacted(str(problem)))
            flock = None
            if pipe.is_closed and time.monotonic() - answered_at > errand.patience_seconds:
                log.warning("giving up: the same search taken up again ships the rest")
                return
            pipe.pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


if __name__ == "__main__":
    sys.exit(main(carry))
