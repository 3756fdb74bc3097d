from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.tracking import sync_state
from pipeline.tracking.journal import Journal, read_journal
from pipeline.tracking.sync_state import SyncProgress


def test_a_run_says_in_words_what_has_not_arrived_yet(
    run_dir: Path, journal: Journal, begin: Callable[..., None]
) -> None:
    begin(journal)
    journal.metrics({"a": 1.0, "b": 2.0}, step=0)
    journal.artifact("config.yaml")
    journal.model()
    assert sync_state.read_sync_state(run_dir).waiting == "2 metric values, 1 file and the model"


def test_files_can_be_behind_while_the_metrics_have_arrived(
    run_dir: Path, journal: Journal, begin: Callable[..., None]
) -> None:
    begin(journal)
    journal.artifact("config.yaml")
    journal.metrics({"a": 1.0}, step=0)
    journal.end("FINISHED")
    ends = [end for _, end in read_journal(journal.path)]
    sync_state.save_progress(
        run_dir, SyncProgress("sqlite:///x", "1", "abc", offset=ends[-1], files_offset=ends[0], status="FINISHED")
    )
    state = sync_state.read_sync_state(run_dir)
    assert (state.mlflow_run_id, state.waiting, state.complete) == ("abc", "1 file", False)


def test_a_run_that_is_not_at_its_end_is_not_complete(
    run_dir: Path, journal: Journal, begin: Callable[..., None]
) -> None:
    begin(journal)
    ((_, end),) = read_journal(journal.path)
    sync_state.save_progress(run_dir, SyncProgress("sqlite:///x", "1", "abc", offset=end, files_offset=end))
    state = sync_state.read_sync_state(run_dir)
    assert state.waiting == "" and not state.complete


def test_an_unsent_end_of_the_journal_counts_as_waiting(run_dir: Path, journal: Journal) -> None:
    journal.end("FINISHED")
    assert sync_state.read_sync_state(run_dir).waiting == "the last records"


@pytest.mark.parametrize("content", ["", "{", '{"uri": "sqlite:///x", "of_a_later_version": 1}', "[]"])
def test_an_unreadable_sync_state_counts_as_nothing_sent(run_dir: Path, content: str) -> None:
    (run_dir / "sync.json").write_text(content)
    assert sync_state.load_progress(run_dir) is None
    assert not sync_state.read_sync_state(run_dir).complete
