"""`pipeline sync`: what a run's own carrier could not bring to MLflow."""

from pathlib import Path

from rich.console import Console

from pipeline.errors import RunError
from pipeline.lifecycle import run as runs
from pipeline.lifecycle.recording import export_command
from pipeline.lifecycle.run import Run
from pipeline.tracking import address
from pipeline.tracking import sync as tracking_sync
from pipeline.tracking import upgrade as tracking_upgrade


def sync(reference: str | None, all_runs: bool, runs_dir: str, *, upgrade: bool = False) -> int:
    """One run (`latest` unless named) or all of `runs_dir`, run by run; the exit code, 1 if anything is left.

    With `upgrade`, the stores of these runs are first brought to the installed MLflow's schema.
    """
    console = Console(highlight=False, soft_wrap=True)
    chosen = _all(runs_dir) if all_runs else [runs.find(reference or runs.LATEST, runs_dir)]
    if upgrade:
        _upgrade_stores(chosen, console)
    left = 0
    for run in chosen:
        config = run.config()
        if config.tracking.uri is None:
            console.print(f"{run.id}: tracking=none, nothing to send")
            continue
        state = tracking_sync.sync_run(
            run.folder,
            uri=config.tracking.uri,
            artifacts=config.tracking.artifacts,
            on_model=export_command(run),
        )
        _note_run_id(run, state.mlflow_run_id)
        left += not state.complete
        report = "complete" if state.complete else f"{state.waiting or 'not finished'} left"
        console.print(f"{run.id}: {report}" + (f" ({state.problem})" if state.problem else ""))
    return 1 if left else 0


def _upgrade_stores(chosen: list[Run], console: Console) -> None:
    uris = dict.fromkeys(uri for run in chosen if (uri := run.config().tracking.uri) is not None)
    of_this_machine = [uri for uri in uris if address.sqlite_file(uri) is not None]
    for uri in of_this_machine or uris:  # a server's own is refused, but does not keep the others from it
        backup = tracking_upgrade.upgrade(uri)
        report = "is up to date" if backup is None else f"is upgraded; as it was before: {backup}"
        console.print(f"{address.redacted(uri)} {report}")


def _note_run_id(run: Run, mlflow_run_id: str | None) -> None:
    """It was not known yet when the run ended without waiting for MLflow."""
    result = run.result()
    if result is not None and mlflow_run_id is not None and result["mlflow_run_id"] != mlflow_run_id:
        run.write_result({**result, "mlflow_run_id": mlflow_run_id})


def _all(runs_dir: str) -> list[Run]:
    found = [
        Run(path.parent)
        for path in sorted(Path(runs_dir).absolute().glob("*/journal.jsonl"))
        if path.parent.name != runs.LATEST
    ]
    if not found:
        raise RunError(f"there is no run in {Path(runs_dir).absolute()} yet; `pipeline train` makes one")
    return found
