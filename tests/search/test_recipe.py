"""What a search found, as a file that says the same as the command."""

from pathlib import Path

import pytest

from pipeline.config import compose
from pipeline.errors import ConfigError
from pipeline.search import plan as plans
from pipeline.search import recipe


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "words, picked",
    [
        (["optimizer.learning_rate=interval(1e-4,1e-1)"], {"optimizer.learning_rate": 0.003}),
        (["model=cnn,mlp", "data=mnist", "trainer.max_epochs=7"], {"model": "mlp"}),
        (
            ["experiment=mnist", "model.widths=[4,8],[16,32]", "callbacks=[default,augmentation]"],
            {"model.widths": "[16,32]"},
        ),
        (
            ["optimizer=adamw,sgd", "optimizer.momentum=0.5,0.9", "search.when={optimizer.momentum: {optimizer: sgd}}"],
            {"optimizer": "sgd", "optimizer.momentum": 0.5},
        ),
        (["seed=1,2", "+callbacks.early_stopping.check_finite=false"], {"seed": 2}),
    ],
)
def test_a_recipe_composes_to_what_its_trial_was_trained_with(words: list[str], picked: dict[str, object]) -> None:
    plan = plans.create_plan([*words, "search.save_as=found"])
    path = recipe.save_recipe(plan, picked, "trial 3", "mine")
    assert path is not None and recipe.MARK in path.read_text()
    composed = compose.compose(["experiment=found"]).config
    wanted = plan.trial_config(picked)
    composed.name = wanted.name  # one of them is named by what varies
    assert composed == wanted


def test_what_a_file_cannot_say_is_left_to_be_typed() -> None:
    plan = plans.create_plan(["seed=1,2", "~callbacks.ema"])
    assert "# To type as well: ~callbacks.ema\n" in recipe.format_recipe(plan, {"seed": 2})


def test_a_file_that_no_search_wrote_is_not_overwritten() -> None:
    path = recipe.recipe_path("mine")
    path.parent.mkdir(parents=True)
    path.write_text("seed: 3\n")
    with pytest.raises(ConfigError) as refused:
        recipe.check_recipe_path("mine")
    assert "search.save_as=best_mine" in str(refused.value)
    path.write_text(f"# @package _global_\n{recipe.MARK}\nseed: 3\n")
    recipe.check_recipe_path("mine")
    recipe.check_recipe_path(None)
