"""How far a run's journal has come on its way to MLflow: `sync.json` in the run directory."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import run_files
from pipeline.run_files import DamagedFileError
from pipeline.system.files import write_atomically
from pipeline.tracking import journal

JOURNAL = run_files.JOURNAL.name
PROGRESS = run_files.SYNC.name
LOCK = ".sync.lock"  # held by whoever carries the journal to MLflow


@dataclass
class Progress:
    """The journal up to byte `offset` is in MLflow, but for files and models: these up to `files_offset`.

    Two places in one journal, so that metrics and the run's status never wait for an upload. `uri` is redacted.
    Counts are of points: in MLflow, left out as infinite, refused by the store for good.
    """

    uri: str
    experiment_id: str | None = None
    mlflow_run_id: str | None = None
    offset: int = 0
    files_offset: int = 0
    status: str | None = None  # how the run ended, as MLflow was told; None while it goes on
    metrics: int = 0
    infinite: int = 0
    refused: int = 0
    problem: str | None = None  # why nothing moves, in the store's words


def load(run_dir: Path) -> Progress | None:
    """None if nothing has been shipped yet, or another version of this package noted it, or the note is damaged:
    shipping again is harmless."""
    try:
        noted = run_files.SYNC.record(run_dir)
        found = None if noted is None else Progress(**noted)
    except (DamagedFileError, TypeError):
        return None
    return found if found is None or min(found.offset, found.files_offset) >= 0 else None


def save(run_dir: Path, progress: Progress) -> None:
    write_atomically(run_dir / PROGRESS, json.dumps(asdict(progress), indent=2) + "\n")


@dataclass(frozen=True)
class SyncState:
    """What of a run has arrived in MLflow, for people. Waiting: metric values, files, models."""

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
        """Such as "312 metric values, 2 files and the model"; empty if everything has arrived."""
        parts = [
            _counted(self.metrics_waiting, "metric value"),
            _counted(self.files_waiting, "file"),
            "the model" if self.models_waiting else "",
        ]
        named = [part for part in parts if part] or (["the last records"] if self.records_waiting else [])
        return " and ".join(filter(None, [", ".join(named[:-1]), named[-1]])) if named else ""


def state_of(run_dir: Path, *, problem: str | None = None) -> SyncState:
    """Read from the run directory alone. `problem` is the caller's, else the one noted last."""
    progress = load(run_dir) or Progress(uri="")
    waiting = {"metrics": 0, "artifact": 0, "model": 0, "other": 0}
    for record, end in journal.read(run_dir / JOURNAL, min(progress.offset, progress.files_offset)):
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


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}" if number else ""
