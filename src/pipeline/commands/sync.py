"""`pipeline sync`: send to MLflow what a run's own sidecar could not."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli_args import boolean, named_run, named_values, typed_packages
from pipeline.config.search_path import ALLOW_PACKAGES
from pipeline.errors import DONE, FAILED, RunError, UserError
from pipeline.system.streams import print_labelled, printable
from pipeline.tracking import tracking_uri

if TYPE_CHECKING:  # a run reads configurations, which takes a tenth of a second
    from pipeline.runs.run_directory import Run
    from pipeline.runs.tracking_store import TrackingStore


def sync(arguments: list[str]) -> int:
    """Send one run, or all runs of a folder one by one. Return 1 if anything is left to send."""
    defaults = {"run": "latest", "runs_dir": "runs", "upgrade": "false", "tracking.uri": "", "tracking.artifacts": ""}
    words = ["run=all" if word == "--all" else word for word in arguments]
    typed = named_values(words, {**defaults, ALLOW_PACKAGES: ""})
    upgrade, packages = boolean(typed, "upgrade"), typed_packages(typed)
    if typed["run"] != "all":
        return sync_runs([named_run(typed, packages)], typed, upgrade=upgrade)
    from pipeline.runs.find_run import runs_in

    runs = [run for run in runs_in(typed["runs_dir"]) if run.has_started]
    if not runs:
        raise RunError(f"there is no run in {Path(typed['runs_dir']).absolute()} yet; `pipeline train` makes one")
    return sync_runs(runs, typed, upgrade=upgrade, skip_refused=True)


def sync_runs(runs: "list[Run]", typed: dict[str, str], *, upgrade: bool, skip_refused: bool = False) -> int:
    """Send runs to their stores, or to the store in `typed`; see `store_of`. Return the exit code.

    With `upgrade` the stores are first upgraded to the schema of the installed MLflow. With `skip_refused` a run that
    may not be sent does not keep the others from it.
    """
    from pipeline.runs.tracking_store import export_command, tracking_store_of
    from pipeline.tracking import sidecar

    stores: dict[Run, TrackingStore | None] = {}
    for run in runs:
        try:
            stores[run] = tracking_store_of(run, typed)
        except UserError as refusal:
            if not skip_refused:
                raise
            print_labelled("error", str(refusal), sys.stderr)
    left = len(stores) < len(runs)
    if upgrade:
        _upgrade_stores([store.uri for store in stores.values() if store is not None])
    for run, store in stores.items():
        if store is None:
            print(f"{run.id}: tracking=none, nothing to send")
            continue
        state = sidecar.sync_run(run.folder, **store._asdict(), on_model=export_command(run))
        _record_run_id(run, state.mlflow_run_id)
        left |= not state.complete
        status = "complete" if state.complete else f"{state.waiting or 'not finished'} left"
        print(f"{run.id}: {status}" + (f" ({printable(state.problem)})" if state.problem else ""))
    return FAILED if left else DONE


def _upgrade_stores(uris: list[str]) -> None:
    from pipeline.tracking.mlflow.sqlite_store import upgrade_database

    local = [uri for uri in dict.fromkeys(uris) if tracking_uri.sqlite_file(uri) is not None]
    for uri in local or dict.fromkeys(uris):  # a server's own is refused, but does not keep the others from it
        backup = upgrade_database(uri)
        status = "is up to date" if backup is None else f"is upgraded; backup: {backup}"
        print(f"{tracking_uri.redact(uri)} {status}")


def _record_run_id(run: "Run", mlflow_run_id: str | None) -> None:
    """Write MLflow's id of the run to its result: it was unknown if the run ended before MLflow answered."""
    from pipeline.runs import lock

    # A training process that holds the lock records the id itself.
    with suppress(lock.RunLockedError), lock.run_lock(run.folder, "sent to MLflow"):
        result = run.result()
        if result is not None and mlflow_run_id is not None and result.get("mlflow_run_id") != mlflow_run_id:
            run.write_result({**result, "mlflow_run_id": mlflow_run_id})
