"""The state of a run's synchronization with MLflow, in `sync.json` in the run directory."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import run_files
from pipeline.run_files import DamagedFileError
from pipeline.system.files import write_atomically
from pipeline.tracking import journal

JOURNAL = run_files.JOURNAL.name
PROGRESS_FILE = run_files.SYNC.name
LOCK = ".sync.lock"  # held by the process that sends the journal to MLflow


@dataclass
class SyncProgress:
    """The places in the journal up to which everything is in MLflow.

    Files and models have a place of their own, so that metrics and the run's status never wait for an upload. `uri` is
    redacted. `metrics`, `infinite` and `refused` count points: in MLflow, left out, refused by the store for good.
    """

    uri: str
    experiment_id: str | None = None
    mlflow_run_id: str | None = None
    offset: int = 0  # bytes
    files_offset: int = 0
    status: str | None = None  # how the run ended, according to MLflow; None while it goes on
    metrics: int = 0
    infinite: int = 0
    refused: int = 0
    problem: str | None = None  # why nothing can be sent, in the store's words


def load_progress(run_dir: Path) -> SyncProgress | None:
    """Return None if nothing has been sent yet, or the file is damaged or of another version of this package.

    Sending again is harmless.
    """
    try:
        record = run_files.SYNC.record(run_dir)
        progress = None if record is None else SyncProgress(**record)
    except (DamagedFileError, TypeError):
        return None
    return progress if progress is None or min(progress.offset, progress.files_offset) >= 0 else None


def save_progress(run_dir: Path, progress: SyncProgress) -> None:
    write_atomically(run_dir / PROGRESS_FILE, json.dumps(asdict(progress), indent=2) + "\n")


@dataclass(frozen=True)
class SyncState:
    """What of a run has arrived in MLflow and what is waiting to be sent, for people."""

    mlflow_run_id: str | None
    experiment_id: str | None
    status: str | None
    metrics_waiting: int
    files_waiting: int
    models_waiting: int
    records_waiting: int  # of any other kind
    problem: str | None

    @property
    def complete(self) -> bool:
        return self.status is not None and not self.waiting

    @property
    def only_model_waiting(self) -> bool:
        rest = self.metrics_waiting + self.files_waiting + self.records_waiting
        return self.status is not None and rest == 0 and self.models_waiting > 0

    @property
    def waiting(self) -> str:
        """What is waiting, such as "312 metric values, 2 files and the model"; empty if everything has arrived."""
        parts = [
            _counted(self.metrics_waiting, "metric value"),
            _counted(self.files_waiting, "file"),
            "the model" if self.models_waiting else "",
        ]
        parts = [part for part in parts if part] or (["the last records"] if self.records_waiting else [])
        return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]])) if parts else ""


def read_sync_state(run_dir: Path, *, problem: str | None = None) -> SyncState:
    """Return the state according to the run directory alone; `problem` replaces the one saved last."""
    progress = load_progress(run_dir) or SyncProgress(uri="")
    waiting = {"metrics": 0, "artifact": 0, "model": 0, "other": 0}
    for record, end in journal.read_journal(run_dir / JOURNAL, min(progress.offset, progress.files_offset)):
        kind = record["kind"]
        if kind in ("artifact", "model"):
            waiting[kind] += end > progress.files_offset
        elif end > progress.offset:
            waiting["metrics" if kind == "metrics" else "other"] += len(record.get("values", (kind,)))
    return SyncState(
        mlflow_run_id=progress.mlflow_run_id,
        experiment_id=progress.experiment_id,
        status=progress.status,
        metrics_waiting=waiting["metrics"],
        files_waiting=waiting["artifact"],
        models_waiting=waiting["model"],
        records_waiting=waiting["other"],
        problem=problem or progress.problem,
    )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}" if number else ""
