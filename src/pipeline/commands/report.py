"""`pipeline report`: the page of a run made again, here and in MLflow."""

from pathlib import Path

from pipeline.errors import DONE, RunError
from pipeline.reports.report_data import has_test_predictions
from pipeline.reports.run_report import REPORT_FILE, write_run_report
from pipeline.runs import lock
from pipeline.runs.find_run import find_run
from pipeline.runs.run_directory import Run
from pipeline.runs.tracking_store import export_command, tracking_store_of
from pipeline.tracking import journal, sidecar, sync_state


def remake(*, run: str, runs_dir: str) -> int:
    """Its exit code: 0 as soon as the page stands in the run directory."""
    found = find_run(run, runs_dir)
    before = _content(found.folder / REPORT_FILE)
    try:
        path = write_run_report(found)
    except OSError as problem:
        raise RunError(
            f"cannot write {found.folder / REPORT_FILE}: {problem.strerror or problem}; copy the run directory to "
            "where you may write, and give the copy: pipeline report run=COPY"
        ) from problem
    print(path)
    if not has_test_predictions(found):
        print(f"without the test set: {found.id} has no predictions; pipeline evaluate run={found.id} writes them")
    if path.read_bytes() != before and sync_state.load_progress(found.folder) is not None:
        try:
            with lock.run_lock(
                found.folder, "reported on"
            ):  # after the page, which may also be made of a run under way
                _send(found)
        except lock.RunLockedError as somebody:
            print(f"not sent to MLflow: {somebody}")
    return DONE


def _send(run: Run) -> None:
    """To where the run's journal went. A run under way sends its own page, one that was never sent takes it along."""
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
    record.artifact(REPORT_FILE)
    record.close()
    state = sidecar.sync_run(run.folder, **store._asdict(), on_model=export_command(run))
    if state.complete:
        print("in MLflow, too")
    else:
        why = state.problem or f"{state.waiting} waiting"
        print(f"not in MLflow yet ({why}); once it can be: pipeline sync run={run.id}")


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
