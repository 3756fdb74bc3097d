"""`pipeline report`: write the report of a run again, here and in MLflow. Imports no torch."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli_args import named_run, named_values
from pipeline.errors import DONE, RunError

if TYPE_CHECKING:  # a run reads configurations, which takes a tenth of a second
    from pipeline.runs.run_directory import Run


def report(arguments: list[str]) -> int:
    """Write the report again, and send it to MLflow if it changed and the run is there."""
    run = named_run(named_values(arguments, {"run": "latest", "runs_dir": "runs"}))
    from pipeline.reports.report_data import has_test_predictions
    from pipeline.reports.run_report import REPORT_FILE, write_run_report
    from pipeline.runs import lock
    from pipeline.tracking import sync_state

    before = _content(run.folder / REPORT_FILE)
    try:
        path = write_run_report(run)
    except OSError as problem:
        raise RunError(
            f"cannot write {run.folder / REPORT_FILE}: {problem.strerror or problem}; copy the run directory "
            "to where you may write, and give the copy: pipeline report run=COPY"
        ) from problem
    print(path)
    if not has_test_predictions(run):
        print(f"without the test set: {run.id} has no predictions; pipeline evaluate run={run.id} writes them")
    if path.read_bytes() != before and sync_state.load_progress(run.folder) is not None:
        try:
            with lock.run_lock(run.folder, "reported on"):  # after the page, which may also be of a running training
                _send(run, REPORT_FILE)
        except lock.RunLockedError as holder:
            print(f"not sent to MLflow: {holder}")
    return DONE


def _send(run: "Run", name: str) -> None:
    """Send the report to the run's store. A running training sends its own."""
    from pipeline.runs.tracking_store import export_command, tracking_store_of
    from pipeline.tracking import journal, sidecar

    if journal.is_open(run.journal_path):
        return
    try:
        store = tracking_store_of(run)
    except RunError as refusal:
        print(f"not sent to MLflow: {refusal}")
        return
    if store is None:
        return
    record = journal.Journal(run.journal_path)
    record.artifact(name)
    record.close()
    state = sidecar.sync_run(run.folder, **store._asdict(), on_model=export_command(run))
    if state.complete:
        print("sent to MLflow")
    else:
        why = state.problem or f"{state.waiting} waiting"
        print(f"not in MLflow yet ({why}); to try again: pipeline sync run={run.id}")


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
