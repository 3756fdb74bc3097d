"""The gap between training and test, and the learning curve: from what trials were judged on."""

from typing import Any

import pytest
from optuna.trial import TrialState
from tests.search.conftest import Ended, MakeSearch

from pipeline.errors import ConfigError
from pipeline.search import plan as plans
from pipeline.search.results import publish, search_report
from pipeline.search.results.plots.learning import learning_curve_plot
from pipeline.search.results.split_scores import generalization_gaps, scores_by_configuration

WORDS = ["model=mlp", "model.dropout=0.2,0.5", "seed=0,1", "search.judged=[train,test]"]


def judged(dropout: float, seed: int, train: float, test: float) -> Ended:
    told = {"samples": 1000, "train": {"accuracy": train, "loss": 0.1}, "test": {"accuracy": test, "loss": 0.5}}
    return Ended({"model.dropout": dropout, "seed": seed}, [test], attributes={"judged": told})


def some() -> list[Ended]:
    scores = [(0.2, 0, 1.0, 0.90), (0.5, 0, 0.97, 0.92), (0.2, 1, 1.0, 0.88), (0.5, 1, 0.95, 0.92)]
    return [judged(*each) for each in scores]


def test_trials_that_differ_in_their_seed_alone_are_judged_together(make_search: MakeSearch) -> None:
    found = scores_by_configuration(make_search(WORDS, some()).results())
    assert [each.values for each in found] == [{"model.dropout": 0.2}, {"model.dropout": 0.5}]
    assert found[1].scores == {"train": [0.97, 0.95], "test": [0.92, 0.92]} and found[1].samples == 1000


def test_the_gap_is_told_with_its_spread_and_what_became_of_it(make_search: MakeSearch) -> None:
    found = generalization_gaps(make_search(WORDS, some()).results())
    assert found is not None
    first, second = (found.cells(row) for row in found.rows)
    assert first == ["0.2", "1.0000 ± 0.0000", "0.8900 ± 0.0141", "0.1100 ± 0.0141", "", ""]
    assert second[3:] == ["0.0400 ± 0.0141", "-0.0700", "+0.0300"]
    assert found.head[:3] == ["model.dropout", "training accuracy", "test accuracy"]
    assert "over 2 seeds" in found.sentence
    assert "| 0.5 | 0.9600 ± 0.0141 | 0.9200 ± 0.0000 | 0.0400 ± 0.0141 | -0.0700 | +0.0300 |" in found.markdown()


def test_of_a_loss_the_gap_is_how_much_higher_it_is(make_search: MakeSearch) -> None:
    search = make_search([*WORDS, "search.objectives={val/loss: minimize}"], some())
    found = generalization_gaps(search.results())
    assert found is not None and found.metric == "loss"
    assert found.rows[0].widths == pytest.approx([0.4, 0.4])


def test_page_and_markdown_table_it(make_search: MakeSearch) -> None:
    search = make_search(WORDS, some())
    page = search_report.render_search_report(search.results(), [])
    assert "From training to test" in page and "0.0400 ± 0.0141" in page
    made = publish.write_search_outputs(
        search.plan, search.folder, search.study, lambda line: pytest.fail(line), is_under_way=False
    )
    assert publish.GAPS in made and "-0.0700" in (search.folder / publish.GAPS).read_text(encoding="utf-8")


def test_what_failed_or_was_never_judged_is_left_out(make_search: MakeSearch) -> None:
    params = {"model.dropout": 0.5, "seed": 1}
    trials = [judged(0.2, 0, 1.0, 0.9), Ended(params, [0.9]), Ended(params, None, TrialState.FAIL)]
    (one,) = scores_by_configuration(make_search(WORDS, trials).results())
    assert one.values == {"model.dropout": 0.2}
    without = make_search([*WORDS[:-1]], some(), name="t").results()
    assert generalization_gaps(without) is None and "From training" not in search_report.render_search_report(
        without, []
    )


def curve(make_search: MakeSearch, words: list[str], sizes: tuple[int, ...]) -> Any:
    trials = []
    for fraction, samples in zip((0.1, 0.5, 1.0), sizes, strict=True):
        for seed in (0, 1):
            told = {"samples": samples, "train": {"accuracy": 1.0}, "validation": {"accuracy": 0.8 + 0.1 * fraction}}
            params = {"data.train_fraction": fraction, "seed": seed}
            trials.append(Ended(params, [0.8], attributes={"judged": told}))
    words = [*words, "seed=0,1", "search.judged=[train,validation]"]
    return learning_curve_plot(make_search(words, trials).results())


def test_the_learning_curve_has_a_line_for_each_part_over_the_sizes_that_were_tried(make_search: MakeSearch) -> None:
    figure = curve(make_search, ["data.train_fraction=0.1,0.5,1.0"], (350, 1750, 3500))
    (panel,) = figure.axes
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["train", "validation"]
    lines = [each.lines[0] for each in panel.containers]
    assert lines[1].get_xdata().tolist() == [350, 1750, 3500]
    assert lines[1].get_ydata().tolist() == pytest.approx([0.81, 0.85, 0.9])


def test_without_several_sizes_there_is_no_curve(make_search: MakeSearch) -> None:
    assert curve(make_search, ["data.train_fraction=0.1,0.5,1.0"], (350, 350, 350)) is None


def test_the_searches_that_we_ship_fit_together() -> None:
    plan = plans.create_plan(["experiment=overfitting", "search=remedies"])
    assert plan.default_params() == {"remedy": "none", "seed": 0} and plan.scored_splits == ["train", "test"]
    assert plans.create_plan(["search=learning_curve"]).scored_splits == ["train", "validation"]
    one_seed = plans.create_plan(["search=learning_curve", "seed=3"])
    assert list(one_seed.space.dimensions) == ["data.train_fraction"] and one_seed.config.seed == 3


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"search\.judged: tset is no split of the data; choose among train, val"):
        plans.create_plan([*WORDS[:-1], "search.judged=[tset]"])
