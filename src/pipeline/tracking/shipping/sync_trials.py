"""Copy the journals of a search and of its trials to MLflow, where the search is the parent run of its trials."""

from pathlib import Path

from pipeline.tracking import journal
from pipeline.tracking.mlflow.store import MlflowStore
from pipeline.tracking.shipping.run_sync import RunSync, Uploads
from pipeline.tracking.sync_state import JOURNAL, load_progress

TRIALS = "trials"
PARENT_TAG = "mlflow.parentRunId"


class SearchSync:
    """Sends the run in `folder` and those in `folder`/trials, in one process: a short trial costs no start of its own.

    `send_new` raises Unavailable, and is then called again on a new SearchSync.
    """

    def __init__(self, folder: Path, store: MlflowStore) -> None:
        self.folder = folder
        self.store = store
        self.parent = RunSync(folder, store)
        self.uploads = Uploads(self.parent, None)
        self.complete_trials: set[Path] = set()

    def send_new(self) -> bool:
        """Send everything that is new by now; return whether the search has ended and nothing is left."""
        self.parent.send_new()
        while self.uploads.send_next():
            pass
        if self.parent.run_id is None:
            return False
        inside = self.folder.resolve()
        for path in sorted(self.folder.glob(f"{TRIALS}/*/{JOURNAL}")):
            if not path.resolve().is_relative_to(inside):
                continue  # a link to a run elsewhere: not of this search
            if path.parent not in self.complete_trials and self._send_trial(path.parent, self.parent.run_id):
                self.complete_trials.add(path.parent)
        return self.parent.progress.status is not None

    def conclude(self) -> None:
        """Mark a search without an end as killed, once its writers are gone."""
        if self.parent.progress.status is None and not journal.is_open(self.parent.journal):
            self.parent.mark_killed()

    def _send_trial(self, folder: Path, parent_id: str) -> bool:
        """Return whether the trial has ended and all of it is in MLflow."""
        known = load_progress(folder)
        trial = RunSync(folder, self.store)
        trial.send_new()
        if trial.run_id is None:
            return False
        if known is None or known.mlflow_run_id != trial.run_id:
            self.store.set_tags(trial.run_id, {PARENT_TAG: parent_id})
        uploads = Uploads(trial, None)
        while uploads.send_next():
            pass
        if trial.progress.status is None and not journal.is_open(trial.journal):
            if any(journal.read_journal(trial.journal, trial.progress.offset)):
                return False  # written since we looked
            trial.mark_killed()
        return trial.progress.status is not None
