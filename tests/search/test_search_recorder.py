"""Who records a search, and who writes its results."""

from collections.abc import Callable
from typing import Any

from tests.search.conftest import Ended

from pipeline.search.search_recorder import SearchRecorder

WORDS = ("data=iris", "model=mlp", "model.dropout=0.0,0.2", "search.n_trials=2", "tracking=none")
TRIALS = (Ended({"model.dropout": 0.0}, [0.8]), Ended({"model.dropout": 0.2}, [0.9]))


def recorder_of(search: Any) -> SearchRecorder:
    return SearchRecorder(search.plan, search.folder, search.study)


def test_a_session_that_ends_after_the_leader_does_not_write_the_results_again(make_search: Callable[..., Any]) -> None:
    search = make_search(WORDS, TRIALS)
    leader, other = recorder_of(search), recorder_of(search)
    assert leader.writes_results()
    leader.mark_results(2)
    leader.close()
    assert not other.writes_results()
    other.close()


def test_a_session_takes_over_from_a_leader_that_was_killed_before_it_wrote_results(
    make_search: Callable[..., Any],
) -> None:
    search = make_search(WORDS, TRIALS)
    leader, other = recorder_of(search), recorder_of(search)
    assert leader.writes_results()
    assert not other.leader_lock.acquire(at_once=True)
    leader.close()  # as the system does for a process that is killed: its locks go, and nothing is marked
    assert other.writes_results()
    other.close()


def test_a_finished_search_that_is_typed_again_writes_its_results_again(make_search: Callable[..., Any]) -> None:
    search = make_search(WORDS, TRIALS)
    first = recorder_of(search)
    assert first.writes_results()
    first.mark_results(2)
    first.close()
    again = recorder_of(search)
    assert again.writes_results()
    again.close()


def test_results_of_fewer_trials_are_written_again(make_search: Callable[..., Any]) -> None:
    search = make_search(WORDS, TRIALS)
    leader, other = recorder_of(search), recorder_of(search)
    assert leader.writes_results()
    leader.mark_results(1)
    leader.close()
    assert other.writes_results()
    other.close()
