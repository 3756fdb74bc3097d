"""All that a report knows of a run, read from its directory alone. No torch in here."""

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
    """assembled   what the configuration turned into (`save_predictions.save_component_facts`)
    start       the journal's record of the newest start
    result      result.json; status RUNNING and no metrics where there is none yet

    predictions of classes, or else `numbers` or `labels`; none of them before the test

    What an earlier life of a resumed run left behind does not count: neither its result nor its predictions.
    """

    run: Run
    config_yaml: str
    environment: dict[str, Any]
    assembled: dict[str, Any]
    start: dict[str, Any]
    result: dict[str, Any]
    curves: Curves
    predictions: ClassPredictions | None
    numbers: RegressionPredictions | None
    labels: MultilabelPredictions | None

    @property
    def judged(self) -> TestPredictions | None:
        """Whichever was predicted."""
        return self.predictions or self.numbers or self.labels

    @property
    def status(self) -> str:
        """FINISHED, FAILED or KILLED; RUNNING while a process has the journal open."""
        told = str(self.result["status"])
        return "KILLED" if told == "RUNNING" and not journal.is_open(self.run.journal_path) else told

    @property
    def metrics(self) -> dict[str, float]:
        """Of the test set; for a run that did not end by itself what its predictions tell, if it was judged since."""
        metrics: dict[str, float] = self.result["metrics"]
        kept = self.judged
        if metrics or kept is None:
            return metrics
        if isinstance(kept, RegressionPredictions):
            explained = r2(kept.true, kept.predicted)
            return {} if math.isnan(explained) else {"test/r2": explained}  # all are alike: nothing is to be explained
        return {"test/accuracy": float(kept.right.mean()), "test/loss": float(kept.losses.mean())}

    @property
    def undefined(self) -> dict[str, str]:
        """{metric of the test set: why there is none}."""
        if self.predictions is not None:
            shown = set(self.predictions.targets.tolist())
            missing = [name for number, name in enumerate(self.class_names) if number not in shown]
            return {"test/auroc": f"no sample of class {', '.join(missing)}"} if missing else {}
        if self.numbers is not None and (len(self.numbers.true) < 2 or (np.ptp(self.numbers.true, axis=0) == 0).any()):
            return {"test/r2": "a number to predict that does not vary"}
        return {}

    @property
    def data(self) -> dict[str, Any] | None:
        """The fields of the DataSpec; None for a user's own data module that has none."""
        spec: dict[str, Any] | None = self.assembled.get("data")
        return spec

    @cached_property
    def class_names(self) -> list[str]:
        names = [] if self.data is None else list(self.data["class_names"])
        if self.predictions is None or len(names) == (count := self.predictions.log_probabilities.shape[1]):
            return names
        return [str(k) for k in range(count)]

    @cached_property
    def confusion(self) -> Ints:
        """(K, K) counts; only with predictions."""
        assert self.predictions is not None
        return confusion(self.predictions.targets, self.predictions.said, classes=len(self.class_names))

    @property
    def headline(self) -> str:
        """The validation metric by which a run is known."""
        return SPLIT_PREFIX.sub(r"\1/", str(self.assembled.get("headline") or "val/accuracy"))

    @property
    def monitored(self) -> tuple[str, str]:
        """By what the best weights are chosen, and whether min or max is the best."""
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
        """What a person compares between runs, flat."""
        params: dict[str, Any] = self.start["params"]
        return params

    def per_epoch(self, step: float) -> float:
        """Steps as epochs, where it is known how many make one."""
        return step / (self.assembled.get("steps_per_epoch") or 1)


def load_report_data(run: Run, status: str | None = None) -> ReportData:
    """Raises RunError for a run that has not started, or that an older version of the program made.

    `status` is how a training ends that writes no result.json, which tells of an earlier one.
    """
    start = latest_start(run)
    if start is None:
        raise RunError(
            f"{run.id} has not started yet, or its journal.jsonl is damaged, which tells no start: there is nothing to "
            "report; pipeline runs shows how it stands"
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
        result={"status": status or _broken(run) or "RUNNING", "metrics": {}, "seconds": None, "command": None}
        | (result or {}),
        curves=normalize_curve_names(journal.metric_history(run.journal_path)),
        predictions=saved.load(run.folder) if has_test_predictions(run) else None,
        numbers=saved.load_numbers(run.folder) if has_test_predictions(run) else None,
        labels=saved.load_labels(run.folder) if has_test_predictions(run) else None,
    )


def _broken(run: Run) -> str | None:
    status = journal.status_after_reopening(run.journal_path)
    return None if status == "INTERRUPTED" else status


def normalize_curve_names(curves: Curves) -> Curves:
    """With val_loss, as Lightning's guides have it, under val/loss, which charts are made of."""
    return {SPLIT_PREFIX.sub(r"\1/", name): points for name, points in curves.items()} | curves


def has_test_predictions(run: Run) -> bool:
    """There are predictions of the weights that it has now."""
    start = latest_start(run)
    is_newest = start is not None and _is_from_latest_start(run.folder / saved.PREDICTIONS_FILE, start)
    return is_newest and saved.saved_test_digest(run.folder) is not None


def latest_start(run: Run) -> dict[str, Any] | None:
    starts = (record for record, _ in journal.read_journal(run.journal_path) if record["kind"] == "start")
    return max(starts, key=lambda record: record["time"], default=None)


def _is_from_latest_start(path: Path, start: dict[str, Any]) -> bool:
    """Written since the run was started, or taken up again, for the last time."""
    return path.exists() and path.stat().st_mtime * 1000 >= start["time"] - CLOCK_TOLERANCE_MS
