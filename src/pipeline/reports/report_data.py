"""Read the data of a report from a run directory alone. This module needs no torch."""

import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import run_files
from pipeline.errors import RunError
from pipeline.reports import predictions as saved
from pipeline.reports.evaluation_statistics import Ints, confusion, r2
from pipeline.reports.predictions import ClassPredictions, MultilabelPredictions, RegressionPredictions, TestPredictions
from pipeline.runs.run_directory import Run
from pipeline.tracking import journal

ASSEMBLED = run_files.ASSEMBLED.name
CLOCK_TOLERANCE_MS = 2  # file systems round

SPLIT_PREFIX = re.compile(r"^(train|val)_")

Curves = dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class ReportData:
    """All that a report reads of a run.

    assembled    facts of the built components (`save_predictions.save_component_facts`)
    start        the journal's record of the latest start
    result       result.json; status RUNNING and no metrics if there is none yet
    predictions  those of the test set; None before the test

    Results and predictions that an earlier attempt of a resumed run left behind do not count.
    """

    run: Run
    config_yaml: str
    environment: dict[str, Any]
    assembled: dict[str, Any]
    start: dict[str, Any]
    result: dict[str, Any]
    curves: Curves
    predictions: TestPredictions | None

    @property
    def classes(self) -> ClassPredictions | None:
        """The predictions of a classification; None for other tasks."""
        return self.predictions if isinstance(self.predictions, ClassPredictions) else None

    @property
    def numbers(self) -> RegressionPredictions | None:
        """The predictions of a regression; None for other tasks."""
        return self.predictions if isinstance(self.predictions, RegressionPredictions) else None

    @property
    def labels(self) -> MultilabelPredictions | None:
        """The predictions of a multi-label classification; None for other tasks."""
        return self.predictions if isinstance(self.predictions, MultilabelPredictions) else None

    @property
    def status(self) -> str:
        """FINISHED, FAILED or KILLED; RUNNING while a process has the journal open."""
        status = str(self.result["status"])
        return "KILLED" if status == "RUNNING" and not journal.is_open(self.run.journal_path) else status

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the test set; of an interrupted run that was evaluated since, those its predictions give."""
        metrics: dict[str, float] = self.result["metrics"]
        predictions = self.predictions
        if metrics or predictions is None:
            return metrics
        if isinstance(predictions, RegressionPredictions):
            explained = r2(predictions.targets, predictions.predicted)
            return {} if math.isnan(explained) else {"test/r2": explained}  # the targets do not vary
        return {"test/accuracy": float(predictions.correct.mean()), "test/loss": float(predictions.losses.mean())}

    @property
    def undefined(self) -> dict[str, str]:
        """{test metric that is not defined: the reason}."""
        if self.classes is not None:
            present = set(self.classes.targets.tolist())
            missing = [name for number, name in enumerate(self.class_names) if number not in present]
            return {"test/auroc": f"no sample of class {', '.join(missing)}"} if missing else {}
        if self.numbers is not None and (
            len(self.numbers.targets) < 2 or (np.ptp(self.numbers.targets, axis=0) == 0).any()
        ):
            return {"test/r2": "a number to predict that does not vary"}
        return {}

    @property
    def spec(self) -> dict[str, Any] | None:
        """The fields of the DataSpec; None for a user's own data module without one."""
        spec: dict[str, Any] | None = self.assembled.get("data")
        return spec

    @cached_property
    def class_names(self) -> list[str]:
        names = [] if self.spec is None else list(self.spec["class_names"])
        if self.classes is None or len(names) == (count := self.classes.log_probabilities.shape[1]):
            return names
        return [str(k) for k in range(count)]

    @cached_property
    def confusion(self) -> Ints:
        """(K, K) counts; only for classification."""
        assert self.classes is not None
        return confusion(self.classes.targets, self.classes.predicted, classes=len(self.class_names))

    @property
    def headline(self) -> str:
        """The primary validation metric."""
        return SPLIT_PREFIX.sub(r"\1/", str(self.assembled.get("headline") or "val/accuracy"))

    @property
    def monitored(self) -> tuple[str, str]:
        """The metric that selects the best checkpoint, and min or max."""
        checkpoint = self.run.config().checkpoint
        chosen = self.assembled.get("monitor") or {"monitor": str(checkpoint.monitor), "mode": str(checkpoint.mode)}
        return chosen["monitor"], chosen["mode"]

    @property
    def best_step(self) -> int | None:
        """The optimiser step of the best checkpoint so far."""
        best = self.run.checkpoints / "best.ckpt"
        step = best.readlink().stem.rpartition("-")[2] if best.is_symlink() else ""
        return int(step) if step.isdecimal() else None

    @property
    def settings(self) -> dict[str, Any]:
        """The flat settings, as in MLflow's parameters."""
        params: dict[str, Any] = self.start["params"]
        return params

    def per_epoch(self, step: float) -> float:
        """Convert steps to epochs; return the step itself if the steps per epoch are unknown."""
        return step / (self.assembled.get("steps_per_epoch") or 1)


def load_report_data(run: Run, status: str | None = None) -> ReportData:
    """Load a run's data; raise RunError for a run that has not started, or that an older version made.

    `status` is that of a training that ends without a result.json of its own.
    """
    start = latest_start(run)
    if start is None:
        raise RunError(
            f"{run.id} has not started yet, or its journal.jsonl is damaged and has no start record: there is "
            "nothing to report; pipeline runs shows its status"
        )
    assembled = run_files.ASSEMBLED.record(run.folder)
    if assembled is None:
        raise RunError(
            f"{run.id} has no {ASSEMBLED}: an older version made it. What a report needs is added by  "
            f"pipeline evaluate run={run.id}"
        )
    result = run.result() if _is_from_latest_start(run.folder / "result.json", start) else None
    return ReportData(
        run=run,
        config_yaml=run_files.CONFIG.text_or_warn(run.folder) or "",
        environment=run.environment(),
        assembled=assembled,
        start=start,
        result={
            "status": status or _failed_resume_status(run) or "RUNNING",
            "metrics": {},
            "seconds": None,
            "command": None,
        }
        | (result or {}),
        curves=normalize_curve_names(journal.metric_history(run.journal_path)),
        predictions=_current_predictions(run, start),
    )


def _failed_resume_status(run: Run) -> str | None:
    status = journal.status_after_reopening(run.journal_path)
    return None if status == "INTERRUPTED" else status


def normalize_curve_names(curves: Curves) -> Curves:
    """Return the curves with val_loss, the name in Lightning's guides, under val/loss as well, which charts read."""
    return {SPLIT_PREFIX.sub(r"\1/", name): points for name, points in curves.items()} | curves


def has_test_predictions(run: Run) -> bool:
    """Return whether the run has test predictions of its current weights."""
    start = latest_start(run)
    return start is not None and _current_predictions(run, start) is not None


def _current_predictions(run: Run, start: dict[str, Any]) -> TestPredictions | None:
    is_current = _is_from_latest_start(run.folder / saved.PREDICTIONS_FILE, start)
    return saved.load_predictions(run.folder) if is_current else None


def latest_start(run: Run) -> dict[str, Any] | None:
    starts = (record for record, _ in journal.read_journal(run.journal_path) if record["kind"] == "start")
    return max(starts, key=lambda record: record["time"], default=None)


def _is_from_latest_start(path: Path, start: dict[str, Any]) -> bool:
    """Return whether the file was written since the run was last started or resumed."""
    return path.exists() and path.stat().st_mtime * 1000 >= start["time"] - CLOCK_TOLERANCE_MS
