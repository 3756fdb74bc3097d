"""`pipeline ui`: MLflow's pages for the runs of this directory, opened at the right one."""

from pipeline.config import compose
from pipeline.errors import TrackingError, TrainingFailed
from pipeline.lifecycle import run as runs
from pipeline.tracking import progress
from pipeline.tracking import ui as tracking_ui


def ui(runs_dir: str, reference: str | None, port: int) -> int:
    """Serve the store until Ctrl-C; a run's own store and page if one is named, else the page of all experiments."""
    page = tracking_ui.EXPERIMENTS
    if reference is None:
        tracking = compose.compose([f"runs_dir={runs_dir}"]).config.tracking
    else:
        run = runs.find(reference, runs_dir)
        tracking = run.config().tracking
        shipped = progress.load(run.folder)
        if shipped is not None and shipped.experiment_id is not None and shipped.mlflow_run_id is not None:
            page = tracking_ui.run_page(shipped.experiment_id, shipped.mlflow_run_id)
    try:
        return tracking_ui.serve(tracking.uri, tracking.artifacts, port, page)
    except TrackingError as problem:
        raise TrainingFailed(str(problem)) from problem
