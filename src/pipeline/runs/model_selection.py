"""How a run was selected: the validation score of its best weights, and how often its test set was used. No torch here.

Whoever selects by test results, however little and however late, has no test set any more. So each use is recorded: one
set of weights that was evaluated on one test set. The same weights evaluated there again tell nothing new. The journal
of a run has a tag for each test set, `test_looks.<its digest>`, whose value names the checkpoints that were evaluated.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline import metrics, run_files
from pipeline.runs.run_directory import Run, checkpoint_step
from pipeline.tracking import journal
from pipeline.tracking.journal import Journal

TEST_USE_PREFIX = "test_looks."
DIGEST_DIGITS = 12
METRIC, MODE, VALUE, DIGEST = "validation.metric", "validation.mode", "validation.value", "validation.digest"


def tag_of_test_set(digest: str) -> str:
    """Return the name of the tag that counts the uses of this test set."""
    return f"{TEST_USE_PREFIX}{digest[:DIGEST_DIGITS]}"


def record_test_use(run: Run, digest: str, checkpoint: str, writer: Journal) -> None:
    """Record that this checkpoint, named by its file, was evaluated on the test set; once."""
    tag = tag_of_test_set(digest)
    recorded = _recorded_test_uses(run, tag)
    if checkpoint not in recorded:
        writer.tags({tag: " ".join(sorted({*recorded, checkpoint}))})


def _recorded_test_uses(run: Run, tag: str) -> set[str]:
    checkpoints: set[str] = set()
    for record, _ in journal.read_journal(run.journal_path):
        if record["kind"] in ("tags", "start"):
            checkpoints |= set(record["tags"].get(tag, "").split())
    return checkpoints


@dataclass(frozen=True)
class ValidationScore:
    """The value of the monitored metric. `digest` is the SHA-256 of the validation samples, "" where unknown."""

    metric: str
    mode: str
    value: float
    digest: str

    def is_better_than(self, other: "ValidationScore") -> bool:
        return metrics.is_better(self.value, other.value, self.mode)

    def tags(self) -> dict[str, str]:
        return {METRIC: self.metric, MODE: self.mode, VALUE: repr(self.value), DIGEST: self.digest}


def score_from_tags(tags: Mapping[str, str]) -> ValidationScore | None:
    """Return the score that tags of MLflow hold; None where they hold none, as those of an older version."""
    try:
        return ValidationScore(tags[METRIC], tags[MODE], float(tags[VALUE]), tags[DIGEST])
    except (KeyError, ValueError):
        return None


def validation_score(run: Run) -> ValidationScore | None:
    """Return the score of the run's best weights; None where nothing was monitored."""
    assembled = run_files.ASSEMBLED.record_or_warn(run.folder) or {}
    monitored = assembled.get("monitor", dict(run.config().checkpoint))
    if monitored is None:
        return None
    tested = run.tested_checkpoint
    last_step = math.inf if tested is None else checkpoint_step(tested)  # what came after it is not evaluated yet
    points = journal.metric_history(run.journal_path).get(monitored["monitor"], [])
    values = [value for step, value in points if step <= last_step and not math.isnan(value)]
    if not values:
        return None
    best = min(values) if monitored["mode"] == "min" else max(values)
    return ValidationScore(monitored["monitor"], monitored["mode"], best, assembled.get("validation_digest") or "")
