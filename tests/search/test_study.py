"""Which values trials are given, by several workers and after an interruption."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from tests.search.conftest import Ended, MakeSearch

from pipeline.search import plan as plans
from pipeline.search import study as studies

RATE = "optimizer.learning_rate=tag(log,interval(1e-5,1e-1))"
SIZE = "data.batch_size=32,64,128,256"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def sampled_values(words: list[str], folder: Path, count: int, *, tell: bool) -> list[dict[str, Any]]:
    """Return the values of the next trials, each asked for as by a process that has just opened the study."""
    plan = plans.create_plan([RATE, SIZE, "search.n_trials=100", *words])
    folder.mkdir(exist_ok=True)
    studies.create_study(plan, folder)
    samples = []
    for _ in range(count):
        study = studies.open_study(plan, folder)
        trial = studies.ask_for_trial(study, plan, 100)
        assert trial is not None
        samples.append(plan.space.suggest(trial, plan.fixed_options))
        if tell:
            study.tell(trial, 0.5)
    return samples


@pytest.mark.parametrize("sampler", ["random", "tpe", "sobol"])
def test_workers_that_ask_at_the_same_time_are_given_different_values(sampler: str, tmp_path: Path) -> None:
    words = [f"search/sampler={sampler}", "search.workers=8"]
    samples = sampled_values(words, tmp_path / "s", 16, tell=False)
    assert len({each["optimizer.learning_rate"] for each in samples}) == 16
    assert len({each["data.batch_size"] for each in samples}) > 2


@pytest.mark.parametrize("sampler", ["random", "tpe", "sobol"])
def test_one_worker_asks_for_the_same_values_also_when_it_was_killed_in_between(sampler: str, tmp_path: Path) -> None:
    words = [f"search/sampler={sampler}"]
    whole = sampled_values(words, tmp_path / "whole", 12, tell=True)
    first = sampled_values(words, tmp_path / "torn", 5, tell=True)
    (killed,) = sampled_values(words, tmp_path / "torn", 1, tell=False)
    study = optuna.load_study(study_name="torn", storage=studies.open_storage(None, tmp_path / "torn"))
    (running,) = study.get_trials(states=(TrialState.RUNNING,))
    studies.mark_failed(study, running, "its worker was killed", again=True)
    rest = sampled_values(words, tmp_path / "torn", 7, tell=True)
    assert [*first, *rest] == whole and rest[0] == killed


def test_choices_of_a_sequence_differ_from_trial_to_trial(tmp_path: Path) -> None:
    samples = sampled_values(["search/sampler=sobol"], tmp_path / "s", 20, tell=True)
    assert {each["data.batch_size"] for each in samples} == {32, 64, 128, 256}


def common_reason(make_search: MakeSearch, *trials: Ended) -> Any:
    search = make_search([RATE, "data.batch_size=64,128"], trials)
    common = studies.common_failure(search.study.get_trials())
    return None if common is None else common.user_attrs[studies.REASON]


def failed(batch_size: int, reason: str = "no such thing") -> Ended:
    return Ended({"data.batch_size": batch_size}, state=TrialState.FAIL, attributes={studies.REASON: reason})


def test_two_failures_with_different_values_and_one_reason_are_common(make_search: MakeSearch) -> None:
    assert common_reason(make_search, failed(64), failed(128)) == "no such thing"


@pytest.mark.parametrize(
    "sizes, reasons, others",
    [
        ([64], ["a"], []),
        ([64, 64], ["a", "a"], []),  # the same values, tried again
        ([64, 128], ["a", "b"], []),
        ([64, 128], ["a", "a"], [Ended({"data.batch_size": 64}, [0.5])]),
        ([64, 128], ["a", "a"], [Ended({"data.batch_size": 64}, state=TrialState.RUNNING, curve={1: 0.5})]),
    ],
)
def test_there_is_no_common_failure_where_other_trials_may_succeed(
    make_search: MakeSearch, sizes: list[int], reasons: list[str], others: list[Ended]
) -> None:
    trials = [failed(size, reason) for size, reason in zip(sizes, reasons, strict=True)]
    assert common_reason(make_search, *trials, *others) is None
