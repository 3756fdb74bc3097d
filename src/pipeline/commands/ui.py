"""`pipeline ui`: MLflow's pages for the runs of this directory, opened at the right one."""

from pathlib import Path

from pipeline.config import compose
from pipeline.errors import RunError, TrackingError, TrainingFailed
from pipeline.runs.find_run import find_run
from pipeline.runs.tracking_store import tracking_store_of
from pipeline.tracking import sync_state
from pipeline.tracking.mlflow import ui_server as tracking_ui


def ui(runs_dir: str, reference: str | None, port: int) -> int:
    """Serve the store until Ctrl-C; a run's own store and page if one is named, else the page of all experiments."""
    page = tracking_ui.EXPERIMENTS
    if reference is None:
        if not Path(runs_dir).is_dir():
            raise RunError(
                f"there is no folder {Path(runs_dir).absolute()}, so no run to show; `pipeline train` makes one, "
                "runs_dir=PATH names another folder"
            )
        tracking = compose.compose([f"runs_dir={runs_dir}"]).config.tracking
        uri, artifacts = tracking.uri, tracking.artifacts
    else:
        run = find_run(reference, runs_dir)
        store = tracking_store_of(run, verb="sync")
        if store is None:
            raise RunError(f"{run.id} was trained with tracking=none, so MLflow does not know it")
        uri, artifacts = store
        shipped = sync_state.load_progress(run.folder)
        if shipped is not None and shipped.experiment_id is not None and shipped.mlflow_run_id is not None:
            page = tracking_ui.run_page(shipped.experiment_id, shipped.mlflow_run_id)
    try:
        return tracking_ui.serve_ui(uri, artifacts, port, page)
    except TrackingError as problem:
        raise TrainingFailed(str(problem)) from problem
