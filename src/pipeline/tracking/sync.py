"""Ships what a run's own sidecar left behind: it was killed, or the store stayed away too long."""

from pathlib import Path

from pipeline.errors import RunError
from pipeline.tracking import address, journal, progress
from pipeline.tracking.carrier import Errand
from pipeline.tracking.progress import JOURNAL, SyncState
from pipeline.tracking.sidecar import launch

PATIENCE_SECONDS = 10.0
OTHER_CARRIER_SECONDS = 60.0  # for the run's own, which is bringing the model when the training has just ended


def sync_run(
    run_dir: Path,
    *,
    uri: str,
    artifacts: str | None,
    on_model: list[str] | None,
    timeout_seconds: float = 600.0,
) -> SyncState:
    """Brings the run's journal into MLflow, all of it and each point once, and says what could not be brought.

    A run without an end becomes KILLED, unless it is still training. Raises RunError if there is no journal.
    """
    if not (run_dir / JOURNAL).exists():
        raise RunError(f"{run_dir} has no {JOURNAL}: that run never started, so there is nothing to ship")
    if is_complete(run_dir, uri):
        return progress.state_of(run_dir)
    errand = Errand(
        address.absolute(uri),
        artifacts,
        on_model,
        follow=False,
        patience_seconds=PATIENCE_SECONDS,
        lock_seconds=0 if journal.is_open(run_dir / JOURNAL) else OTHER_CARRIER_SECONDS,
    )
    return launch(run_dir, errand).wait(timeout_seconds, for_model=True)


def is_complete(run_dir: Path, uri: str) -> bool:
    """Whether the run has ended and everything is in this very store, as far as the run directory knows."""
    shipped = progress.load(run_dir)
    database = address.sqlite_file(uri)
    if shipped is None or shipped.uri != address.redacted(address.absolute(uri)):
        return False
    return progress.state_of(run_dir).complete and (database is None or database.exists())
