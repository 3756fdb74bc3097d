"""How often a test set was looked at. Who chooses by it, however little and however late, has no test any more.

A look: one set of weights was judged on one test set. The same weights judged there again tell nothing new. A run's
journal has a tag for each test set, `test_looks.<its digest>`, whose value names the checkpoints that were judged.
"""

from pipeline.runs.run_directory import Run
from pipeline.tracking import journal
from pipeline.tracking.journal import Journal

TEST_USE_PREFIX = "test_looks."
DIGEST_DIGITS = 12  # of the digest


def tag_of_test_set(digest: str) -> str:
    return f"{TEST_USE_PREFIX}{digest[:DIGEST_DIGITS]}"


def record_test_use(run: Run, digest: str, weights: str, writer: Journal) -> None:
    """`weights` is the name of a checkpoint. What is noted already is not noted again."""
    tag = tag_of_test_set(digest)
    before = _recorded_test_uses(run, tag)
    if weights not in before:
        writer.tags({tag: " ".join(sorted({*before, weights}))})


def _recorded_test_uses(run: Run, tag: str) -> set[str]:
    found: set[str] = set()
    for record, _ in journal.read(run.journal_path):
        if record["kind"] in ("tags", "start"):
            found |= set(record["tags"].get(tag, "").split())
    return found
