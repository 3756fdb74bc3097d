"""What a run was chosen by: the validation metric of its best weights. No torch in here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline import metrics, run_files
from pipeline.runs.run_directory import Run, checkpoint_step
from pipeline.tracking import journal

METRIC, MODE, VALUE, DIGEST = "validation.metric", "validation.mode", "validation.value", "validation.digest"


@dataclass(frozen=True)
class ValidationScore:
    """digest  SHA-256 of the validation samples; "" where nobody knows it"""

    metric: str
    mode: str
    value: float
    digest: str

    def is_better_than(self, other: "ValidationScore") -> bool:
        return metrics.is_better(self.value, other.value, self.mode)

    def tags(self) -> dict[str, str]:
        return {METRIC: self.metric, MODE: self.mode, VALUE: repr(self.value), DIGEST: self.digest}


def score_from_tags(tags: Mapping[str, str]) -> ValidationScore | None:
    """None where they tell none, as those of an older version do."""
    try:
        return ValidationScore(tags[METRIC], tags[MODE], float(tags[VALUE]), tags[DIGEST])
    except (KeyError, ValueError):
        return None


def validation_score(run: Run) -> ValidationScore | None:
    """None for a run that nothing was monitored in."""
    assembled = run_files.ASSEMBLED.record_or_warn(run.folder) or {}
    chosen = assembled.get("monitor", dict(run.config().checkpoint))
    if chosen is None:
        return None
    judged = run.judged_checkpoint
    last = math.inf if judged is None else checkpoint_step(judged)  # what came after it has no verdict yet
    points = journal.history(run.journal_path).get(chosen["monitor"], [])
    values = [value for step, value in points if step <= last and not math.isnan(value)]
    if not values:
        return None
    best = min(values) if chosen["mode"] == "min" else max(values)
    return ValidationScore(chosen["monitor"], chosen["mode"], best, assembled.get("validation_digest") or "")
