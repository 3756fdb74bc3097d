"""The model's life: registered, the champion, challenged, and used by its name."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def tracked(program: Any, *overrides: str) -> tuple[str, ...]:
    return (*(word for word in program.SMALL if word != "tracking=none"), *overrides)


def test_a_better_run_becomes_the_champion_and_is_found_by_that_name(program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    poor = program.run(home, "train", *tracked(program, "trainer.max_epochs=1", "optimizer.learning_rate=1e-4"))
    assert poor.code == 0, poor.err
    first = program.run(home, "register", "name=digits")
    assert "registered  digits version 1" in first.out and "the first of its name" in first.out, first.err
    good = program.run(home, "train", *tracked(program, "seed=1"))
    assert good.code == 0, good.err
    second = program.run(home, "register", "name=digits")
    assert "registered  digits version 2" in second.out and "champion    version 2: val/loss" in second.out
    assert "test set    test/accuracy" in second.out and "used 2 times" in second.out
    again = program.run(home, "register", "name=digits", "run=latest")
    assert "version 2" in again.out, "a run is registered once"
    assert "used 2 times" in again.out, "the same weights on the same test set are one look"
    best = program.run(home, "evaluate", "run=models:/digits@champion")
    newest = max(program.runs_in(home))
    assert best.code == 0 and newest.name in best.out
    by_number = program.run(home, "evaluate", "run=models:/digits/1")
    assert by_number.code == 0 and min(program.runs_in(home)).name in by_number.out
    unknown = program.run(home, "evaluate", "run=models:/letters@champion")
    assert unknown.code == 2 and "Traceback" not in unknown.err
    assert "models:/letters@champion is not registered" in unknown.err and "digits" in unknown.err


def test_a_run_without_mlflow_or_without_an_end_has_no_model_to_register(
    program: Any, finished: Any, tmp_path: Path
) -> None:
    finished.copied_to(tmp_path / "home")
    refused = program.run(tmp_path / "home", "register", "name=digits")
    assert refused.code == 2 and "tracking=none" in refused.err
