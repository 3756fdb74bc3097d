"""A configuration that is judged on every fold: its mean and spread count, not its luckiest fold."""

from pathlib import Path

import pytest
from optuna.trial import TrialState
from tests.search.conftest import Ended, MakeSearch

from pipeline.errors import ConfigError
from pipeline.search import plan as plans
from pipeline.search import start
from pipeline.search.results import search_report

WORDS = ["search=folds", "model=mlp,cnn"]
SCORES = {"mlp": [0.99, 0.70, 0.80, 0.75, 0.76], "cnn": [0.90, 0.92, 0.88, 0.91, 0.89]}
TRIALS = [Ended({"model": model, "data.fold": fold}, [SCORES[model][fold]]) for fold in range(5) for model in SCORES]


def test_five_folds_are_searched_and_another_number_of_them_on_demand() -> None:
    plan = plans.create_plan(["search=folds"])
    assert [each["data.fold"] for each in plan.space.combinations(plan.fixed_options)] == [0, 1, 2, 3, 4]
    assert plan.fixed == ["data.folds=5"] and plan.settings.final_seeds == 0
    plan = plans.create_plan(["search=folds", "data.folds=3"])
    assert plan.fixed == ["data.folds=3"] and len(plan.space.combinations(plan.fixed_options)) == 3


def test_what_is_repeated_has_to_be_searched() -> None:
    with pytest.raises(ConfigError, match=r"search\.repeats=seed: expected a key that is searched"):
        plans.create_plan(["search=grid", "model=mlp,cnn", "search.repeats=seed"])


def test_the_best_mean_is_the_best_though_a_fold_of_another_is_higher(make_search: MakeSearch) -> None:
    search = make_search(WORDS, [*TRIALS, Ended({"model": "mlp", "data.fold": 0}, None, TrialState.FAIL)])
    first, second = search.results().estimates
    assert (first.params, second.params) == ({"model": "cnn"}, {"model": "mlp"})
    assert first.mean == pytest.approx(0.9) and first.spread == pytest.approx(0.0158, abs=1e-4)
    assert first.sentence.startswith("val/accuracy 0.9000 ± 0.0158 (5: 0.9000, 0.9200, 0.8800")


def test_a_fold_that_lacks_is_told(make_search: MakeSearch) -> None:
    (found,) = make_search(["search=folds"], [Ended({"data.fold": 3}, [0.5])]).results().estimates
    assert found.sentence == "val/accuracy 0.5000 (1 of 5: 0.5000)"


def test_report_and_show_tell_mean_and_spread(
    make_search: MakeSearch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = make_search(WORDS, TRIALS)
    page = search_report.render_search_report(search.results(), [])
    assert "val/accuracy, mean" in page and "0.9000" in page and "± 0.0158 between 5 trials" in page
    assert "pipeline train data.folds=5 model=cnn" in page
    assert start.run_search_command(["show", "s", f"runs_dir={tmp_path / 'runs'}"]) == 0
    said = capsys.readouterr().out
    assert "estimate    val/accuracy 0.9000 ± 0.0158" in said and "model=cnn" in said
