"""`pipeline search show`, `list` and `dashboard`."""

import importlib.util
import os
from pathlib import Path

import pytest
from optuna.trial import TrialState
from tests.search.conftest import Ended, MakeSearch

from pipeline.errors import ConfigError, RunError
from pipeline.search import start
from pipeline.search.searches import find_search
from pipeline.tracking.journal import Journal

RATE = "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))"
TRIALS = [
    Ended({"optimizer.learning_rate": 0.01}, [0.8]),
    Ended({"optimizer.learning_rate": 0.02}, [0.95]),
    Ended({"optimizer.learning_rate": 0.03}, None, TrialState.PRUNED, {1: 0.4}),
]


@pytest.fixture
def runs(tmp_path: Path) -> str:
    return f"runs_dir={tmp_path / 'runs'}"


def test_show_prints_the_state_of_a_killed_search_and_makes_its_report(
    make_search: MakeSearch, runs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    search = make_search([RATE, "search.n_trials=9"], TRIALS)
    for words in (["s", runs], [runs]):
        assert start.run_search_command(["show", *words]) == 0
        out = capsys.readouterr().out
        assert "stopped; 3 of 9 trials: 2 finished, 1 pruned" in out and "trial 1: val/accuracy 0.9500" in out
        assert "pipeline search name=s runs_dir=" in out and "search.n_trials" not in out
        assert f"report      {search.folder / 'report.html'}" in out
    assert (search.folder / "figures" / "history.png").exists()
    lines = [line.split()[:3] for line in out.splitlines() if line[:1].isdigit()]
    assert lines == [["1", "finished", "0.9500"], ["0", "finished", "0.8000"], ["2", "pruned", "0.4000"]]


def test_a_search_whose_journal_is_open_is_under_way(
    make_search: MakeSearch, runs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    search = make_search([RATE], TRIALS)
    journal = Journal(search.folder / "journal.jsonl")
    journal.tags({"search": "s"})
    assert start.run_search_command(["show", "name=s", runs]) == 0
    assert "under way; 3 of 20 trials" in capsys.readouterr().out
    assert "under way" in (search.folder / "report.html").read_text()
    journal.close()


def test_list_begins_with_the_newest_search_and_shows_a_damaged_one(
    make_search: MakeSearch, runs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_search([RATE, "search.n_trials=3"], TRIALS, name="first")
    damaged = make_search([RATE], TRIALS, name="second").folder
    begun = make_search([RATE], [], name="third").folder
    (damaged / "config.yaml").write_text("{")
    (begun / "study.log").unlink()
    for age, name in enumerate(("third", "second", "first")):
        os.utime(damaged.parent / name / "config.yaml", (1e9 - age, 1e9 - age))
    assert start.run_search_command(["list", runs]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[:2] for row in rows[1:]] == [["third", "empty"], ["second", "DAMAGED"], ["first", "finished"]]
    assert rows[3][2:5] == ["3/3", "val/accuracy", "0.9500"]


def test_an_unknown_name_is_refused_with_the_nearest_ones(make_search: MakeSearch, runs: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no search in .* yet; `pipeline search KEY"):
        start.run_search_command(["show", runs])
    make_search([RATE], [], name="learning_rates")
    with pytest.raises(
        RunError, match=r"(?s)no search learning_rate in .*did you mean  pipeline search show learning_rates"
    ):
        start.run_search_command(["show", "learning_rate", runs])
    (tmp_path / "runs/searches/learning_rates/study.log").unlink()
    with pytest.raises(RunError, match="has no trials yet; to begin"):
        start.run_search_command(["show", runs])


def test_an_unknown_subcommand_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"(?s)shwo is no KEY=VALUE, .* show, list, dashboard.*pipeline search show"):
        start.run_search_command(["shwo"])


def test_a_search_may_be_named_by_its_directory(make_search: MakeSearch, tmp_path: Path) -> None:
    search = make_search([RATE], TRIALS)
    assert find_search(str(search.folder), str(tmp_path / "runs")) == search.folder


@pytest.mark.skipif(importlib.util.find_spec("optuna_dashboard") is not None, reason="it is installed here")
def test_the_command_that_installs_the_dashboard_is_printed_where_it_is_missing(
    make_search: MakeSearch, runs: str
) -> None:
    make_search([RATE], TRIALS)
    with pytest.raises(ConfigError, match="pip install optuna-dashboard"):
        start.run_search_command(["dashboard", "s", runs])
