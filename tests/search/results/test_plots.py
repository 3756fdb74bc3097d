"""Pictures of searches: the usual one, and those with which a drawing may break down."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from optuna.trial import TrialState
from PIL import Image
from tests.search.conftest import Ended, MakeSearch, Search

from pipeline.search.results.plots import importance, many, progress, scales, values
from pipeline.search.results.plots.draw import write_plots
from pipeline.search.results.plots.look import SETTINGS, value_range
from pipeline.search.results.search_results import Objective

RATE = "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))"
BOTH = ["model=mlp,cnn", RATE, "model.dropout=interval(0,0.5)", "search.when={model.dropout: {model: cnn}}"]
HIGHER = Objective("val/accuracy", 0, is_maximized=True)
ALL = {"history", "importance", "slices", "contours", "parallel", "curves", "timeline"}
FEW = {"importance", "slices", "parallel", "timeline", "history"}


def score(rate: float) -> float:
    return 0.97 - 0.05 * (math.log10(rate) + 2) ** 2


def usual(count: int = 24) -> list[Ended]:
    """Half of them with a key that the others have not; each fifth pruned, the last failed, two workers."""
    random = np.random.default_rng(0)
    trials = []
    for number in range(count):
        rate = float(10 ** random.uniform(-4, -1))
        model = ("mlp", "cnn")[number % 2]
        dropout = {"model.dropout": float(random.uniform(0, 0.5))} if model == "cnn" else {}
        curve = {1: 0.3, 2: 0.5, 3: score(rate)}
        is_pruned = number % 5 == 4
        trials.append(
            Ended(
                {"model": model, "optimizer.learning_rate": rate, **dropout},
                None if is_pruned else [score(rate)],
                TrialState.PRUNED if is_pruned else TrialState.COMPLETE,
                {1: 0.2} if is_pruned else curve,
                worker=number % 2,
            )
        )
    failed = Ended({"model": "mlp", "optimizer.learning_rate": 0.05}, None, TrialState.FAIL, attributes={"reason": "x"})
    return [*trials, failed]


def drawn(search: Search) -> set[str]:
    found = list(write_plots(search.results()))
    problems = [each for each in found if isinstance(each, Exception)]
    if problems:
        raise problems[0]
    for path in found:
        assert isinstance(path, Path)
        with Image.open(path) as picture:
            picture.load()
            assert 500 < picture.width < 4000 and 150 < picture.height < 6000, path
    return {path.stem for path in found if isinstance(path, Path)}


def with_look(draw: Callable[[], Figure | None]) -> Figure:
    with matplotlib.rc_context(SETTINGS):
        figure = draw()
        assert figure is not None
        FigureCanvasAgg(figure).draw()
    return figure


def test_a_usual_search_has_all_pictures_and_matplotlib_stays_as_it_was(make_search: MakeSearch) -> None:
    before = dict(matplotlib.rcParams)
    assert drawn(make_search([*BOTH, "search.n_trials=24"], usual())) == ALL
    assert dict(matplotlib.rcParams) == before


def rates(values_of: list[Any], **more: Any) -> list[Ended]:
    return [
        Ended({"optimizer.learning_rate": 10 ** (-4 + 0.2 * at)}, [each], **more) for at, each in enumerate(values_of)
    ]


PRUNED = Ended({"optimizer.learning_rate": 0.01}, None, TrialState.PRUNED)
FAILED = Ended({"optimizer.learning_rate": 0.02}, None, TrialState.FAIL)
ODD = {
    "one trial": ([RATE], rates([0.9]), FEW),
    "one key": ([RATE], rates([0.5 + 0.03 * at for at in range(12)]), FEW),
    "all but one pruned or failed": ([RATE], [PRUNED, FAILED, *rates([0.9]), PRUNED], FEW),
    "nothing finished": ([RATE], [PRUNED, FAILED], {"timeline"}),
    "nothing at all": ([RATE], [], set()),
    "infinite scores": ([RATE], rates([0.9, math.inf, 0.8, -math.inf]), FEW),
    "a curve of NaN": ([RATE], rates([0.9, 0.8], curve={1: math.nan, 2: math.inf, 3: 0.5}), FEW),
    "a score that never changes": ([RATE], rates([0.5] * 15), FEW),
    "a trial in line": ([RATE], [*rates([0.9]), Ended({}, None, TrialState.WAITING)], FEW),
    "a whole number": (
        ["trainer.max_epochs=range(1,4)", RATE],
        [Ended({"trainer.max_epochs": 1 + at % 3, "optimizer.learning_rate": 0.01}, [0.1 * at]) for at in range(9)],
        FEW,
    ),
    "lists": (
        ["model=mlp", "model.widths=[16],[16,32]", "seed=1,2,3"],
        [Ended({"model.widths": ("[16]", "[16,32]")[at % 2], "seed": 1 + at % 3}, [0.1 * at]) for at in range(9)],
        FEW | {"contours"},
    ),
}


@pytest.mark.parametrize("case", list(ODD))
def test_an_odd_search_is_drawn_as_far_as_there_is_something_to_draw(make_search: MakeSearch, case: str) -> None:
    words, trials, expected = ODD[case]
    assert drawn(make_search(words, trials)) == expected


def test_with_two_objectives_there_is_a_front_and_a_picture_of_each(make_search: MakeSearch) -> None:
    words = [RATE, "data.batch_size=64,128", "search.objectives={val/accuracy: maximize, parameters: minimize}"]
    trials = [
        Ended({"optimizer.learning_rate": 0.001 * (at + 1), "data.batch_size": (64, 128)[at % 2]}, [0.1 * at, 9.0**at])
        for at in range(5)
    ]
    search = make_search(words, trials)
    each = {f"{kind}_{end}" for kind in ("slices", "contours", "parallel") for end in ("val_accuracy", "parameters")}
    assert drawn(search) == {"history", "front", "importance", "timeline", *each}
    (panel,) = with_look(lambda: many.pareto_plot(search.results())).axes
    assert (panel.get_xscale(), panel.get_yscale()) == ("linear", "log")
    (line,) = panel.get_lines()
    assert len(line.get_xdata()) == 5, "of these trials none is better than another in each"


def test_a_key_searched_by_its_logarithm_has_such_an_axis(make_search: MakeSearch) -> None:
    search = make_search(BOTH, usual())
    panels = {
        panel.get_xlabel(): panel for panel in with_look(lambda: values.slice_plot(search.results(), HIGHER)).axes
    }
    assert panels["learning_rate"].get_xscale() == "log" and panels["dropout"].get_xscale() == "linear"
    assert [label.get_text() for label in panels["model"].get_xticklabels()] == ["mlp", "cnn"]
    low, high = panels["learning_rate"].get_xlim()
    assert low < 1e-4 < 1e-1 < high, "all that was searched, not only where trials were"


def test_no_name_is_cut_off_however_long_it_is(make_search: MakeSearch) -> None:
    choices = [f"experiment_number_{at}_with_a_long_name/{'x' * 60}.ckpt" for at in range(7)]
    trials = [Ended({"init_from": choices[at % 7], "seed": 1 + at % 2}, [0.1 * at]) for at in range(14)]
    search = make_search([f"init_from={','.join(choices)}", "seed=1,2"], trials)
    for draw in (values.slice_plot, values.contour_plot, many.parallel_coordinate_plot):
        figure = with_look(lambda draw=draw: draw(search.results(), HIGHER))  # type: ignore[misc]
        (width, height), whole = figure.get_size_inches(), figure.get_tightbbox()
        assert whole.x0 >= 0 and whole.y0 >= 0 and whole.x1 <= width and whole.y1 <= height, draw.__name__


def test_the_key_that_decides_comes_first_and_pruned_trials_count(make_search: MakeSearch) -> None:
    search = make_search(BOTH, usual(40))
    found = importance.importances(search.results(), HIGHER)
    assert next(iter(found.shares)) == "optimizer.learning_rate" and set(found.shares) == set(
        search.plan.space.dimensions
    )
    assert sum(found.shares.values()) == pytest.approx(1) and "of 40 trials" in found.remark


def test_after_few_trials_it_is_said_that_it_is_too_early(make_search: MakeSearch) -> None:
    few = importance.importances(make_search([RATE], rates([0.1, 0.2, 0.3])).results(), HIGHER)
    assert few.shares == {} and "too early" in few.remark
    same = importance.importances(make_search([RATE], rates([0.5] * 15), name="t").results(), HIGHER)
    assert same.shares == {} and "equally good" in same.remark


def test_a_few_hopeless_scores_do_not_press_the_others_together() -> None:
    good = [0.95, 0.96, 0.97, 0.98]
    low, high = value_range([*good, *good, 0.1], HIGHER)
    assert low > 0.9 and high == 0.98
    assert value_range([0.5], HIGHER) == pytest.approx((0.475, 0.525))


def test_a_pause_between_two_sittings_is_cut_out_of_the_timeline(make_search: MakeSearch) -> None:
    night = Ended({"optimizer.learning_rate": 0.01}, [0.9], after_seconds=9 * 3600)
    search = make_search([RATE], [*rates([0.5] * 4), night])
    (panel,) = with_look(lambda: progress.timeline_plot(search.results())).axes
    assert panel.get_xlim()[1] < 200 and "9 h later" in [text.get_text().strip() for text in panel.texts]


def test_a_key_goes_by_the_shortest_name_that_tells_it_from_the_others() -> None:
    assert scales.shorten_keys(["model", "model.depth", "optimizer.depth", "optimizer.lr"]) == {
        "model": "model",
        "model.depth": "model.depth",
        "optimizer.depth": "optimizer.depth",
        "optimizer.lr": "lr",
    }


def test_long_choices_that_begin_and_end_alike_are_told_apart() -> None:
    texts = [f"{'a' * 30}{number}{'z' * 30}" for number in range(3)]
    assert (
        len(set(scales.distinct_labels(texts))) == 3 and max(map(len, scales.distinct_labels(texts))) <= scales.LONGEST
    )
    assert scales.distinct_labels(["mlp", "cnn"]) == ["mlp", "cnn"]
