"""A search does what its directory says when it starts, not what was there when its command was read."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, RunError
from pipeline.search import recipe, session, start
from pipeline.search.directory import lock_search
from pipeline.search.plan import Plan, read_plan_texts

NEW = ("name=s", "data=iris", "model=mlp", "tracking=none", "search.n_trials=3")
RATE = "optimizer.learning_rate=interval(1e-4,1e-1)"
WIDTHS = "model.widths=[4],[8]"


@pytest.fixture
def started(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Return the plans that are started from now on; they are only saved."""
    plans: list[Plan] = []

    def run_search(plan: Plan, folder: Path) -> int:
        plan.save(folder)
        plans.append(plan)
        return 0

    monkeypatch.setattr(session, "run_search", run_search)
    return plans


def meanwhile(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run another command, once, between the reading and the start of the next one."""
    original = recipe.check_recipe_path

    def check_recipe_path(name: str | None) -> None:
        monkeypatch.setattr(recipe, "check_recipe_path", original)
        start.run_search_command(arguments)
        original(name)

    monkeypatch.setattr(recipe, "check_recipe_path", check_recipe_path)


def test_what_another_command_changed_meanwhile_stays_changed(
    started: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    start.run_search_command([*NEW, RATE])
    meanwhile(monkeypatch, "name=s", "search.n_trials=7")
    start.run_search_command(["name=s", "search.max_failures=9"])
    assert (started[-1].settings.n_trials, started[-1].settings.max_failures) == (7, 9)


def test_a_search_that_another_command_started_meanwhile_is_not_overwritten(
    started: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile(monkeypatch, *NEW, RATE)
    with pytest.raises(ConfigError, match="the search s has begun without it"):
        start.run_search_command([*NEW, WIDTHS])
    (first,) = started
    assert list(first.space.dimensions) == ["optimizer.learning_rate"]
    assert read_plan_texts(Path("runs/searches/s").absolute()) == first.to_texts()


def test_two_searches_without_a_name_in_one_second_get_two_directories(
    started: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile(monkeypatch, *NEW[1:], RATE)
    start.run_search_command([*NEW[1:], WIDTHS])
    assert len(started) == 2 and len(list(Path("runs/searches").iterdir())) == 2


def test_a_search_that_is_under_way_cannot_be_changed(started: list[Plan]) -> None:
    start.run_search_command([*NEW, RATE])
    with lock_search(Path("runs/searches/s").absolute()), pytest.raises(RunError, match="is under way already"):
        start.run_search_command(["name=s", "search.n_trials=7"])
    assert len(started) == 1


def test_a_mistake_is_answered_without_importing_optuna() -> None:
    code = "import sys, pipeline.search.start; print({'optuna', 'torch'} & sys.modules.keys())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"
