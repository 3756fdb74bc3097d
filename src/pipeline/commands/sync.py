"""`pipeline sync`: what a run's own carrier could not bring to MLflow."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from pipeline.errors import DONE, FAILED, RunError, UserError
from pipeline.runs import lock
from pipeline.runs import run_directory as runs
from pipeline.runs.find_run import find_run, runs_in
from pipeline.runs.run_directory import Run
from pipeline.runs.tracking_store import TrackingStore, export_command, tracking_store_of
from pipeline.system.streams import print_labelled, printable
from pipeline.tracking import sidecar, tracking_uri
from pipeline.tracking.mlflow import sqlite_store


def sync(
    reference: str | None,
    all_runs: bool,
    runs_dir: str,
    *,
    upgrade: bool = False,
    typed: Mapping[str, str] | None = None,
    packages: Sequence[str] = (),
) -> int:
    """One run (`latest` unless named) or all of `runs_dir`, run by run; the exit code, 1 if anything is left.

    With `upgrade`, the stores of these runs are first brought to the installed MLflow's schema. `typed` is where to
    send them, if not to their own store; see `store_of`. `packages` may be called to make a model of one.
    """
    console = Console(highlight=False, soft_wrap=True, markup=False)
    chosen = _all(runs_dir) if all_runs else [find_run(reference or runs.LATEST, runs_dir, packages=packages)]
    stores: dict[Run, TrackingStore | None] = {}
    for run in chosen:
        try:
            stores[run] = tracking_store_of(run, typed)
        except UserError as refusal:
            if not all_runs:
                raise
            print_labelled("error", str(refusal), sys.stderr)  # one that cannot be sent keeps no other from it
    left = len(stores) < len(chosen)
    if upgrade:
        _upgrade_stores([store.uri for store in stores.values() if store is not None], console)
    for run, store in stores.items():
        if store is None:
            console.print(f"{run.id}: tracking=none, nothing to send")
            continue
        state = sidecar.sync_run(run.folder, **store._asdict(), on_model=export_command(run))
        _note_run_id(run, state.mlflow_run_id)
        left |= not state.complete
        told = "complete" if state.complete else f"{state.waiting or 'not finished'} left"
        console.print(f"{run.id}: {told}" + (f" ({printable(state.problem)})" if state.problem else ""))
    return FAILED if left else DONE


def _upgrade_stores(of_runs: list[str], console: Console) -> None:
    uris = dict.fromkeys(of_runs)
    of_this_machine = [uri for uri in uris if tracking_uri.sqlite_file(uri) is not None]
    for uri in of_this_machine or uris:  # a server's own is refused, but does not keep the others from it
        backup = sqlite_store.upgrade_database(uri)
        told = "is up to date" if backup is None else f"is upgraded; as it was before: {backup}"
        console.print(f"{tracking_uri.redact(uri)} {told}")


def _note_run_id(run: Run, mlflow_run_id: str | None) -> None:
    """It was not known yet when the run ended without waiting for MLflow."""
    with suppress(lock.RunLockedError), lock.run_lock(run.folder, "sent to MLflow"):  # whoever trains it notes it, too
        result = run.result()
        if result is not None and mlflow_run_id is not None and result.get("mlflow_run_id") != mlflow_run_id:
            run.write_result({**result, "mlflow_run_id": mlflow_run_id})


def _all(runs_dir: str) -> list[Run]:
    found = [run for run in runs_in(runs_dir) if run.has_started]
    if not found:
        raise RunError(f"there is no run in {Path(runs_dir).absolute()} yet; `pipeline train` makes one")
    return found
