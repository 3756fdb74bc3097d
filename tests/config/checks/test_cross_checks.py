from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from pipeline.config.apply_overrides import apply_overrides
from pipeline.config.checks.cross_checks import check_constraints
from pipeline.config.compose import compose
from pipeline.config.overrides import parse_overrides
from pipeline.errors import ConfigError


@pytest.fixture(scope="module")
def shipped() -> DictConfig:
    return compose([]).unresolved


def facts_of(shipped: DictConfig, overrides: list[str]) -> bool:
    """Raises ConfigError for facts that do not go together."""
    config = shipped.copy()
    apply_overrides(config, parse_overrides(overrides), groups={})
    check_constraints({str(name): value for name, value in OmegaConf.to_container(config).items()})  # type: ignore[union-attr]
    return True


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (
            ["data.batch_size=100", "trainer.devices=3"],
            "data.batch_size=100 cannot be split over 3 processes; use a multiple of 3, such as 102",
        ),
        (["data.batch_size=100", "trainer.devices=[0,1,2]"], "cannot be split over 3 processes"),
        (["data.batch_size=100", "trainer.devices=2", "trainer.num_nodes=3"], "cannot be split over 6 processes"),
        (
            ["data.balanced=true", "task.class_weights=balanced"],
            "make rare ones count more than the others: leave one of them out",
        ),
        (["trainer.max_epochs=-1"], "are both unset"),
        (["trainer.max_epochs=null", "trainer.max_steps=-1"], "are both unset"),
        (
            ["trainer.check_val_every_n_epoch=20"],
            "in 10 epochs: use trainer.check_val_every_n_epoch=1",
        ),
        (["trainer.max_epochs=1", "trainer.check_val_every_n_epoch=2"], "in 1 epoch: use"),
        (["scheduler.warmup_epochs=11"], "scheduler.warmup_epochs=11 is more than trainer.max_epochs=10"),
        (["trainer.max_epochs=1", "+trainer.min_epochs=2"], "trainer.min_epochs=2 is more than trainer.max_epochs=1"),
        (
            ["+model.width=10", "+model.heads=4"],
            "a multiple of the heads, such as model.width=12",
        ),
        (["checkpoint.mode=top"], "expected min (lower is better) or max (higher is better)"),
        (["checkpoint.monitor=val/loss", "checkpoint.mode=max"], "add checkpoint.mode=min"),
        (["checkpoint.monitor=val/rmse", "checkpoint.mode=max"], "add checkpoint.mode=min"),
        (["checkpoint.monitor=val/r2", "checkpoint.mode=min"], "add checkpoint.mode=max"),
        (["checkpoint.monitor=val/hamming_loss", "checkpoint.mode=max"], "add checkpoint.mode=min"),
        (
            ["checkpoint.monitor=test/loss"],
            "the test set chooses nothing; monitor what validation measures, such as val/",
        ),
        (["callbacks.early_stopping.monitor=test/loss"], "such as val/loss"),
        (
            ["+data.source.test_share=0.6", "+data.source.validation_share=0.4"],
            "leave nothing to learn from; expected less than 1 together, such as 0.2 and 0.2",
        ),
        (
            ["callbacks.early_stopping.monitor=val/accuracy", "callbacks.early_stopping.mode=min"],
            "add callbacks.early_stopping.mode=max",
        ),
        (["+trainer.limit_train_batches=3"], "counts DataLoader batches; with this model use data.train_fraction=0.1"),
        (["+trainer.fast_dev_run=true"], "use trainer.max_steps=1"),
        (["batch.on_out_of_memory=halve", "trainer.strategy=fsdp"], "use trainer.strategy=ddp"),
        (["trainer.devices=0"], "expected auto, a number of devices from 1"),
        (["trainer.devices=two"], "expected auto, a number of devices from 1"),
        (["trainer.devices=[]"], "expected auto, a number of devices from 1"),
        (["~regularizer"], "regularizer is missing, and a run needs it"),
        (["data.root=/surely/not/here"], "data.root=/surely/not/here does not exist; expected the folder"),
    ],
)
def test_what_cannot_work_is_refused_with_what_would(shipped: DictConfig, overrides: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        facts_of(shipped, overrides)
    assert expected in str(caught.value)


def test_weights_that_nobody_has_trained_are_not_held_back() -> None:
    with pytest.raises(ConfigError, match=r"these are random: add init_from=RUN, or model\.pretrained="):
        facts_of(compose(["callbacks=[default,unfreezing]"]).config, [])
    assert facts_of(compose(["callbacks=[default,unfreezing]", "init_from=latest"]).config, [])


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.max_epochs=-1", "trainer.max_steps=100"],
        ["trainer.max_epochs=-1", "trainer.max_steps=9", "trainer.check_val_every_n_epoch=20"],
        ["trainer.devices=-1"],
        ["data.batch_size=128", "trainer.devices=2"],
        ["optimizer.weight_decay=0"],
        ["~callbacks.early_stopping"],
        ["checkpoint.monitor=val/loss", "checkpoint.mode=min"],
        ["data.root=/tmp"],
        ['data.root="~"'],
        ["data.root=???"],
    ],
)
def test_what_can_work_passes(shipped: DictConfig, overrides: list[str]) -> None:
    assert facts_of(shipped, overrides)


@pytest.mark.parametrize("launch, is_here", [("torchrun", True), ("slurm", False), ("kubernetes", False)])
def test_a_folder_of_a_cluster_need_not_be_on_this_machine(launch: str, is_here: bool) -> None:
    elsewhere = compose([f"launch={launch}"]).config
    if is_here:
        with pytest.raises(ConfigError, match="does not exist"):
            facts_of(elsewhere, ["data.root=/surely/not/here"])
        assert facts_of(elsewhere, ["data.root=/surely/not/here", "launch.nodes=2"])
    else:
        assert facts_of(elsewhere, ["data.root=/surely/not/here"])


def test_nodes_of_the_users_own_with_other_keys_pass(shipped: DictConfig) -> None:
    assert facts_of(shipped, ["~data.batch_size", "~trainer.devices", "~trainer.max_epochs", "~trainer.max_steps"])
    assert facts_of(shipped, ["model={_target_: my_package.Net}", "data={_target_: my_package.Data}"])


@pytest.mark.parametrize(
    "options, expected",
    [
        (
            "data=iris model=cnn",
            "model=cnn takes images or sound; Iris (data.source) gives a table\n  those that fit: ",
        ),
        ("data=iris model=cnn", "model=mlp"),
        ("data=iris model=gru", "model=gru takes text; Iris (data.source) gives a table"),
        ("model=lstm", "model=lstm takes text; MNIST5k (data.source) gives images"),
        ("data=text_table data.root=. model=mlp", "model=text_cnn"),
        ("data=sst2 data.root=. model=vit", "model=vit takes images or sound; TextTable (data.source) gives text"),
        (
            "data=iris model=mlp callbacks=[default,augmentation]",
            "gives a table: leave it out, ~callbacks.augmentation",
        ),
        ("callbacks=token_dropout", "callbacks.token_dropout"),
        ("data=spoken_digits callbacks=swap_noise", "takes a table; SpokenDigits (data.source) gives sound"),
        ("data=diabetes model=softmax_regression", "answers with one of several classes; Diabetes (data.source) asks"),
        ("data=diabetes model=softmax_regression", "those that fit: model=linear_regression"),
        (
            "data=iris model=linear_regression",
            "asks for one of several classes\n  those that fit: model=softmax_regression",
        ),
        ("data=iris data.source.positive=setosa model=softmax_regression", "asks for one of two classes"),
        (
            "task=regression",
            "task=regression answers with numbers; MNIST5k (data.source) asks for one of several classes",
        ),
        ("data=diabetes model=mlp task=classification", "asks for numbers: leave task out"),
        ("data=diabetes model=mlp task.label_smoothing=0.1", "spreads certainty over classes"),
        ("data=diabetes model=mlp task.class_weights=balanced", "weighs classes"),
    ],
)
def test_what_does_not_go_together_is_told_by_what_classes_state(options: str, expected: str) -> None:
    with pytest.raises(ConfigError) as told:
        facts_of(compose(options.split()).config, [])
    assert expected in str(told.value)


@pytest.mark.parametrize(
    "options",
    [
        "data=spoken_digits model=cnn",
        "data=digits model=mlp",
        "data=digits model=softmax_regression",
        "data=iris data.source.positive=setosa model=logistic_regression",
        "data=breast_cancer model=perceptron",
        "data=diabetes model=linear_regression",
        "data=sst2 data.root=. model=ngrams callbacks=[default,token_dropout]",
        "data=wine model=mlp callbacks=[default,mixup]",
        "model.dropout=0",
    ],
)
def test_what_goes_together_passes(options: str) -> None:
    assert facts_of(compose(options.split()).config, [])


@pytest.mark.parametrize(
    "typed, instead",
    [
        (["data.batch_size=1"], "data.batch_size=16"),
        (["data.batch_size=1", "trainer.devices=1", "trainer.sync_batchnorm=false"], "data.batch_size=16"),
        (["data.batch_size=2", "trainer.devices=2", "trainer.sync_batchnorm=false"], "data.batch_size=32"),
        (["data.batch_size=2", "trainer.devices=[0,1]", "trainer.sync_batchnorm=false"], "data.batch_size=32"),
        (["data.batch_size=2", "trainer.devices=2"], None),
        (["data.batch_size=4", "trainer.devices=2", "trainer.sync_batchnorm=false"], None),
        (["data.batch_size=1", "model.batch_norm=false"], None),
        (["data.batch_size=1", "model.widths=[]"], None),
        (["data.batch_size=2", "trainer.devices=1"], None),
    ],
)
def test_batch_norm_needs_two_samples(typed: list[str], instead: str | None) -> None:
    config: Any = OmegaConf.to_container(compose(["model=mlp", *typed]).config)
    if instead is None:
        check_constraints(config)
    else:
        with pytest.raises(ConfigError, match=f"batch norm one sample.* {instead} or more, or model.batch_norm=false"):
            check_constraints(config)
