from pathlib import Path

import pytest

from pipeline.config import compose
from pipeline.config.frozen import TrustPolicy
from pipeline.errors import ConfigError
from pipeline.search import plan as plans

RATE = "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))"


def test_a_trials_configuration_is_the_one_that_train_would_compose() -> None:
    plan = plans.create_plan(["model=mlp,cnn", "model.dropout=interval(0,0.5)", RATE, "trainer.max_epochs=2"])
    picked = {"model": "mlp", "model.dropout": 0.25, "optimizer.learning_rate": 3e-3}
    words = ["trainer.max_epochs=2", "model=mlp", "model.dropout=0.25", "optimizer.learning_rate=0.003"]
    assert plan.trial_config(picked) == compose.compose(words).config
    assert plan.trial_config({**picked, "model": "cnn"}).model._target_ == "pipeline.models.cnn.CNN"


def test_the_default_configuration_comes_first() -> None:
    plan = plans.create_plan(["model=mlp,cnn", "model.widths=[8],[16,32,64]", RATE])
    assert plan.default_params() == {"model": "cnn", "model.widths": "[16,32,64]", "optimizer.learning_rate": 0.01}
    assert plan.keys_without_default() == []
    elsewhere = plans.create_plan(
        ["model.dropout=interval(0.3,0.5)", "model=mlp,softmax_regression", "search.when={model.dropout: {model: mlp}}"]
    )
    assert elsewhere.default_params() == {"model": "mlp", "model.dropout": 0.3}
    assert elsewhere.keys_without_default() == ["model", "model.dropout"]


@pytest.mark.parametrize(
    "words, told",
    [
        (["trainer.max_epochs=2"], "nothing is searched: give a key several values"),
        (["model=cnn,mpl"], "model=mpl does not exist"),
        (["model.drpout=interval(0,1)"], "model.drpout does not exist"),
        (["optimizer.learning_rate=0.1,abc"], "optimizer.learning_rate=abc"),
        (["model=cnn,mlp", "search.n_trails=3"], "search.n_trails does not exist"),
        (["seed=1,2", "search.objectives={val/accuracy: best}"], "expected maximize or minimize"),
        (["seed=1,2", "search.objectives={val/loss: maximize}"], "use 'search.objectives={val/loss: minimize}'"),
        (["seed=1,2", "search.objectives={val/hamming_loss: maximize}"], "it is better when it is lower"),
        (["seed=1,2", "search.objectives={test/accuracy: maximize}"], "a search does not use the test set"),
        (
            ["seed=1,2", "search.objectives={val/acuracy: maximize}"],
            "search.objectives.val/acuracy: nothing logs this metric",
        ),
        (["seed=1,2", "search.objectives={val/acuracy: maximize}"], "did you mean  val/accuracy ?"),
        (["seed=1,2", "search.objectives={accuracy: maximize}"], "nothing logs this metric"),
        (["seed=1,2", "search.constraints={val/f1: {min: 0.5}}"], "constraints.val/f1: nothing logs this metric"),
        (["seed=1,2", "launch=torchrun"], "launch=torchrun cannot run a search: type launch=local"),
        (["seed=1,2", "search.storage=sqlite:///x.db"], "expected postgresql://USER@HOST/DATABASE, or null"),
        (["seed=1,2", "search.storage=postgresql://me:secret@host/db"], "search.storage holds a user, a password"),
        (["seed=1,2", "search.constraints={parameters: 5}"], "expected bounds, such as {max: 100000}"),
        (["seed=1,2", "search.constraints={parameters: {max: few}}"], "parameters.max=few: expected a number"),
        (["seed=1,2", "search.constraints={test/loss: {max: 1}}"], "a search does not use the test set"),
        (["seed=1,2", "search.workers=0"], "search.workers=0: expected 1 or more"),
        (["seed=1,2", "search.timeout=5"], "search.timeout=5: expected a time with its unit"),
        (["+new=1,2"], "only a key that exists can have several values"),
        (["seed=1,2", "search/sampler=tpr"], "search/sampler=tpr does not exist"),
    ],
)
def test_mistakes_are_found_before_the_first_trial(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        plans.create_plan(words)
    assert told in str(refused.value)


def test_a_key_that_some_options_lack_is_refused_until_it_has_a_condition() -> None:
    words = ["model=cnn,softmax_regression", "model.dropout=interval(0,0.5)"]
    with pytest.raises(
        ConfigError, match=r"model=softmax_regression.*\n.*model.dropout does not exist(.|\n)*search\.when"
    ):
        plans.create_plan(words)
    plan = plans.create_plan([*words, "search.when={model.dropout: {model: cnn}}"])
    assert plan.default_params() == {"model": "cnn", "model.dropout": 0.2}


def test_a_plan_comes_back_from_its_folder_as_it_was(tmp_path: Path) -> None:
    plan = plans.create_plan(["model=mlp,cnn", RATE, "search.n_trials=7", "seed=3"])
    plan.save(tmp_path)
    again = plans.load_plan(tmp_path, TrustPolicy())
    assert (again.config, again.fixed, again.space) == (plan.config, plan.fixed, plan.space)
    assert again.fixed == ["seed=3"] and again.settings.n_trials == 7


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "sobol", "nsga", "cma_es"])
@pytest.mark.parametrize("pruner", ["median", "hyperband", "successive_halving", "patient", "none"])
def test_every_sampler_and_pruner_can_be_chosen(sampler: str, pruner: str) -> None:
    plan = plans.create_plan(["seed=1,2", f"search/sampler={sampler}", f"search/pruner={pruner}"])
    assert plan.settings.sampler._target_.startswith("optuna.samplers.")
    assert plan.settings.pruner._target_.startswith("optuna.pruners.")
