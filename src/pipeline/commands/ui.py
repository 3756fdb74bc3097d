"""`pipeline ui`: serve MLflow's pages for the runs of a folder, at the right run."""

from pathlib import Path

from pipeline import cli_args
from pipeline.errors import RunError, TrackingError, TrainingFailed


def ui(arguments: list[str]) -> int:
    """Serve the store until Ctrl-C: a run's own store and page if a run is named, else the page of all experiments."""
    named = cli_args.named_values(arguments, {"run": "", "runs_dir": "runs", "port": "5000"})
    runs_dir, port = named["runs_dir"], cli_args.port_number(named, example="5000")
    from pipeline.tracking import sync_state
    from pipeline.tracking.mlflow import ui_server as tracking_ui

    page = tracking_ui.EXPERIMENTS
    if not named["run"]:
        if not Path(runs_dir).is_dir():
            raise RunError(
                f"there is no folder {Path(runs_dir).absolute()}, so no run to show; `pipeline train` makes one, "
                "runs_dir=PATH names another folder"
            )
        from pipeline.config import compose

        tracking = compose.compose([f"runs_dir={runs_dir}"]).config.tracking
        uri, artifacts = tracking.uri, tracking.artifacts
    else:
        from pipeline.runs.tracking_store import tracking_store_of

        run = cli_args.named_run(named)
        store = tracking_store_of(run, verb="sync")
        if store is None:
            raise RunError(f"{run.id} was trained with tracking=none, so MLflow does not know it")
        uri, artifacts = store
        state = sync_state.load_progress(run.folder)
        if state is not None and state.experiment_id is not None and state.mlflow_run_id is not None:
            page = tracking_ui.run_page(state.experiment_id, state.mlflow_run_id)
    try:
        return tracking_ui.serve_ui(uri, artifacts, port, page)
    except TrackingError as problem:
        raise TrainingFailed(str(problem)) from problem
