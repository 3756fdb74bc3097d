"""A search is what stands in its directory when it is led, not what stood there when it was read."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError, RunError
from pipeline.search import directory as folders
from pipeline.search import plan as plans
from pipeline.search import session, start

NEW = ("name=s", "data=iris", "model=mlp", "tracking=none", "search.n_trials=3")
RATE = "optimizer.learning_rate=interval(1e-4,1e-1)"
WIDTHS = "model.widths=[4],[8]"


@pytest.fixture
def led(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[plans.Plan]:
    """The plans that are led from now on; each only saved."""
    found: list[plans.Plan] = []

    def sit(plan: plans.Plan, folder: Path) -> int:
        plan.save(folder)
        found.append(plan)
        return 0

    monkeypatch.setattr(session, "sit", sit)
    return found


def meanwhile(monkeypatch: pytest.MonkeyPatch, *typed: str) -> None:
    """Another command runs, once, after the next one has read what it is to do and before that is begun."""
    place = start.recipe.check_place

    def check_place(path: Any) -> None:
        monkeypatch.setattr(start.recipe, "check_place", place)
        start.search(typed)
        place(path)

    monkeypatch.setattr(start.recipe, "check_place", check_place)


def test_what_another_command_changed_meanwhile_stays_changed(
    led: list[plans.Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    start.search([*NEW, RATE])
    meanwhile(monkeypatch, "name=s", "search.n_trials=7")
    start.search(["name=s", "search.max_failures=9"])
    assert (led[-1].settings.n_trials, led[-1].settings.max_failures) == (7, 9)


def test_one_that_another_command_began_meanwhile_is_not_made_another(
    led: list[plans.Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile(monkeypatch, *NEW, RATE)
    with pytest.raises(ConfigError, match="the search s has begun without it"):
        start.search([*NEW, WIDTHS])
    (first,) = led
    assert list(first.space.dimensions) == ["optimizer.learning_rate"]
    assert plans.texts_in(Path("runs/searches/s").absolute()) == first.texts()


def test_two_without_a_name_in_one_second_are_two(led: list[plans.Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    meanwhile(monkeypatch, *NEW[1:], RATE)
    start.search([*NEW[1:], WIDTHS])
    assert len(led) == 2 and len(list(Path("runs/searches").iterdir())) == 2


def test_a_search_that_is_led_is_not_changed(led: list[plans.Plan]) -> None:
    start.search([*NEW, RATE])
    with folders.led(Path("runs/searches/s").absolute()), pytest.raises(RunError, match="is under way already"):
        start.search(["name=s", "search.n_trials=7"])
    assert len(led) == 1
