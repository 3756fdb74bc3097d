"""Which values trials are given, by several workers and after an interruption."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from pipeline.search import plan as plans
from pipeline.search import study as studies

RATE = "optimizer.learning_rate=tag(log,interval(1e-5,1e-1))"
SIZE = "data.batch_size=32,64,128,256"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def asked_of(words: list[str], folder: Path, count: int, *, told: bool) -> list[dict[str, Any]]:
    """The values of the next trials of the search in `folder`, each asked for by a process that has just opened it."""
    plan = plans.make([RATE, SIZE, "search.n_trials=100", *words])
    folder.mkdir(exist_ok=True)
    studies.create(plan, folder)
    found = []
    for _ in range(count):
        study = studies.open_study(plan, folder)
        trial = studies.ask(study, plan, 100)
        assert trial is not None
        found.append(plan.space.pick(trial, plan.settled))
        if told:
            study.tell(trial, 0.5)
    return found


@pytest.mark.parametrize("sampler", ["random", "tpe", "sobol"])
def test_workers_that_ask_at_the_same_time_are_given_different_values(sampler: str, tmp_path: Path) -> None:
    words = [f"search/sampler={sampler}", "search.workers=8"]
    picked = asked_of(words, tmp_path / "s", 16, told=False)
    assert len({each["optimizer.learning_rate"] for each in picked}) == 16
    assert len({each["data.batch_size"] for each in picked}) > 2


@pytest.mark.parametrize("sampler", ["random", "tpe", "sobol"])
def test_one_worker_asks_for_the_same_values_also_when_it_was_killed_in_between(sampler: str, tmp_path: Path) -> None:
    words = [f"search/sampler={sampler}"]
    whole = asked_of(words, tmp_path / "whole", 12, told=True)
    first = asked_of(words, tmp_path / "torn", 5, told=True)
    (killed,) = asked_of(words, tmp_path / "torn", 1, told=False)
    study = optuna.load_study(study_name="torn", storage=studies.open_storage(None, tmp_path / "torn"))
    (running,) = study.get_trials(states=(TrialState.RUNNING,))
    studies.give_up(study, running, "its worker was killed", again=True)
    rest = asked_of(words, tmp_path / "torn", 7, told=True)
    assert [*first, *rest] == whole and rest[0] == killed


def test_choices_of_a_sequence_differ_from_trial_to_trial(tmp_path: Path) -> None:
    picked = asked_of(["search/sampler=sobol"], tmp_path / "s", 20, told=True)
    assert {each["data.batch_size"] for each in picked} == {32, 64, 128, 256}
