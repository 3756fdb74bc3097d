"""The page of a search, and what becomes of a search whose page cannot be made."""

import json
import re
from pathlib import Path

import pytest
from optuna.trial import TrialState
from tests.search.conftest import Ended, MakeSearch, Search

from pipeline.search.results import publish, search_report

RATE = "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))"
HOSTILE = '<script>alert("1")</script>'


def page_of(search: Search, *, is_under_way: bool = False) -> str:
    """Without pictures, which take a while."""
    return search_report.render_search_report(search.results(is_under_way=is_under_way), [])


def some() -> list[Ended]:
    failed = Ended({"optimizer.learning_rate": 0.03}, None, TrialState.FAIL, attributes={"reason": HOSTILE})
    finished = [Ended({"optimizer.learning_rate": rate}, [score]) for rate, score in ((0.01, 0.8), (0.02, 0.95))]
    return [*finished, failed]


def test_the_page_needs_nothing_else_and_shows_no_text_as_markup(make_search: MakeSearch) -> None:
    search = make_search([RATE, "search.n_trials=3"], some())
    told: list[str] = []
    made = publish.write_search_outputs(search.plan, search.folder, search.study, told.append, is_under_way=False)
    assert told == [] and made[-1] == publish.REPORT
    page = (search.folder / publish.REPORT).read_text(encoding="utf-8")
    assert "default-src &#x27;none&#x27;" in page and "<script" not in page and "&lt;script&gt;" in page
    assert set(re.findall(r'(?:src|href)="(.{0,21})', page)) == {"data:image/png;base64"}
    assert "url(" not in page and "@import" not in page


def test_the_best_is_told_with_its_command_and_recipe(make_search: MakeSearch) -> None:
    page = page_of(make_search([RATE, "model=mlp", "search.n_trials=3"], some()))
    assert "pipeline train model=mlp optimizer.learning_rate=0.02" in page
    assert "# @package _global_" in page and "optimizer:\n  learning_rate: 0.02" in page
    assert "stopped after 2 of 3 trials" in page and "Not yet judged on the test set." in page
    assert "under way" in page_of(make_search([RATE], some(), name="t"), is_under_way=True)


@pytest.mark.parametrize(
    "best, default, said",
    [
        ([0.95, 0.96, 0.97], [0.90, 0.955, 0.91], "no clear gain"),
        ([0.95, 0.96, 0.97], [0.90, 0.91, 0.92], "a clear gain"),
        ([0.95, 0.96, 0.97], [0.90], "too few seeds"),
    ],
)
def test_the_test_set_says_whether_it_is_a_gain(
    make_search: MakeSearch, best: list[float], default: list[float], said: str
) -> None:
    search = make_search([RATE], some())
    params = json.dumps({"optimizer.learning_rate": 0.02})
    kinds = [("best", params, best), ("default", "{}", default)]
    kept = {
        f"{kind} {values} {seed}": {"kind": kind, "run": "r", "metrics": {"test/accuracy": score}}
        for kind, values, scores in kinds
        for seed, score in enumerate(scores)
    }
    (search.folder / "final.json").write_text(json.dumps(kept))
    page = page_of(search)
    assert f"On the test set: {said}" in page and "0.9600" in page and "± 0.0100, 3 seeds" in page


def test_half_a_comparison_is_none(make_search: MakeSearch) -> None:
    search = make_search([RATE], some())
    entry = {"kind": "best", "run": "r", "metrics": {"test/accuracy": 0.9}}
    (search.folder / "final.json").write_text(json.dumps({'best {"optimizer.learning_rate": 0.02} 1': entry}))
    assert search.results().comparison is None


def test_a_row_knows_its_place_in_the_order_of_each_column(make_search: MakeSearch) -> None:
    page = page_of(make_search([RATE], some()))
    rows = re.findall(r'<tr style="([^"]*)"[^>]*><th scope="row">(\d)', page)
    by_score = sorted(rows, key=lambda row: int(re.findall(r"--o2:(\d)", row[0])[0]))
    by_number = sorted(rows, key=lambda row: int(re.findall(r"--o0:(\d)", row[0])[0]))
    assert [number for _, number in by_score] == ["1", "0", "2"]
    assert [number for _, number in by_number] == ["0", "1", "2"]


def test_what_cannot_be_drawn_costs_one_line_and_not_the_search(make_search: MakeSearch) -> None:
    search = make_search([RATE], some())
    (search.folder / "figures").write_text("a file where a folder has to be")
    told: list[str] = []
    assert publish.write_search_outputs(search.plan, search.folder, search.study, told.append, is_under_way=False) == []
    (line,) = told
    assert "FileExistsError" in line and "\n" not in line
    assert "Traceback" in (search.folder / publish.LOG).read_text()


def test_one_picture_that_fails_leaves_the_others(make_search: MakeSearch) -> None:
    search = make_search([RATE], some())
    (search.folder / "figures" / "history.png").mkdir(parents=True)
    told: list[str] = []
    made = publish.write_search_outputs(search.plan, search.folder, search.study, told.append, is_under_way=False)
    assert len(told) == 1 and "1 of the pictures" in told[0]
    assert "figures/history.png" not in made and {"figures/slices.png", publish.REPORT} <= set(made)


def test_of_two_objectives_the_page_lists_the_front(make_search: MakeSearch) -> None:
    words = [RATE, "search.objectives={val/accuracy: maximize, parameters: minimize}"]
    scores = ((0.9, 5000.0), (0.8, 100.0), (0.7, 6000.0))
    trials = [Ended({"optimizer.learning_rate": 0.01 * (at + 1)}, score) for at, score in enumerate(scores)]
    page = page_of(make_search(words, trials))
    front = page[page.index("None is better in each objective") : page.index("<h2>Trials")]
    assert re.findall(r'<th scope="row">(\d)', front) == ["1", "0"] and "5,000" in front


def test_the_folder_may_be_moved(make_search: MakeSearch, tmp_path: Path) -> None:
    search = make_search([RATE], some())
    assert str(tmp_path) not in re.sub(r"runs_dir=\S+", "", page_of(search)), "no path of this machine"
