from pathlib import Path

import pytest

from pipeline.config.checks.check_config import check_config
from pipeline.config.checks.missing_and_unread_keys import check_unread_keys
from pipeline.config.compose import compose
from pipeline.config.search_path import config_folders, shipped_folder
from pipeline.errors import ConfigError


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        is_accepted(*overrides)
    return str(caught.value)


def is_accepted(*overrides: str) -> bool:
    """Raises ConfigError if not: a failed test then shows the reason."""
    composed = compose(overrides, config_name="search" if overrides[0].startswith("search") else "train")
    check_unread_keys(composed)
    check_config(composed.config, composed.shipped)
    return True


@pytest.mark.parametrize(
    "override",
    [
        "optimizer.learning_rate=1",
        "data.train_fraction=1",
        "data.root=/tmp",
        "data.root=null",
        "trainer.devices=2",
        "trainer.devices=auto",
        "trainer.devices=[0,1]",
        "trainer.precision=bf16-mixed",
        "trainer.precision=16",
        "trainer.gradient_clip_val=0.5",
        "trainer.max_epochs=null",
        "trainer.deterministic=warn",
        "scheduler.warmup_epochs=0.5",
        "checkpoint.every_n_steps=100",
        "tracking.experiment=mine",
        "+trainer.detect_anomaly=true",
        "+callbacks.timer={_target_: pytorch_lightning.callbacks.Timer, duration: '00:01:00:00'}",
    ],
)
def test_values_that_fit_are_accepted(override: str) -> None:
    assert is_accepted(override, "trainer.max_steps=100")


@pytest.mark.parametrize(
    "override, expected",
    [
        ("optimizer.learning_rate=abc", "is text; expected a number above 0, such as the default 0.01"),
        (
            "trainer.max_epochs=3.5",
            "is a decimal number; expected -1, a whole number from 1 or null, such as",
        ),
        (
            "trainer.max_epochs='7'",
            "'7' is text; expected -1, a whole number from 1 or null, such as the default 10\n"
            "  did you mean  trainer.max_epochs=7 ?",
        ),
        ("trainer.max_epochs=1e3", "did you mean  trainer.max_epochs=1000 ?"),
        ("seed=", "seed= has nothing after it"),
        ("seed=true", "seed=true is true or false; expected a whole number"),
        ("data.batch_size=null", "data.batch_size=null: expected a whole number from 1, such as the default 128"),
        ("data.root=5", "is a whole number; expected text or null"),
        ("model.widths=3", "expected a list of whole numbers from 1 (at least 1), such as the default [16,32,64]"),
        ("model.widths=[1,a]", "model.widths=[1,a]: expected a list of whole numbers"),
        ("trainer.precision=bf15-mixed", "did you mean  trainer.precision=bf16-mixed"),
        ("checkpoint.keep=two", "is text; expected a whole number from 1, such as the default 2"),
        ("tracking.uri=3", "is a whole number; expected text"),
        ("data.source=mnist", "cannot replace what has keys of its own"),
        ("callbacks.early_stopping=3", "to leave it out  ~callbacks.early_stopping"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_the_right_one(override: str, expected: str) -> None:
    assert expected in refusal(override)


@pytest.mark.parametrize(
    "override, expected",
    [
        ("+trainer.max_epoch=3", "takes no argument max_epoch\n  did you mean  trainer.max_epochs ?"),
        ("+trainer.logger=false", "trainer.logger cannot be set: the run passes it"),
        ("+data.seed=3", "data.seed cannot be set: the run passes it"),
        ("+callbacks.early_stoping.patience=3", "did you mean  callbacks.early_stopping ?"),
        ("+checkpoint.kep=3", "checkpoint.kep does not exist\n  did you mean  checkpoint.keep ?"),
        ("+nmae=x", "nmae does not exist\n  did you mean  name ?"),
        ("~model.dropout", "needs dropout, but no value is given\n  to give it  +model.dropout=VALUE"),
        ("model=[mlp,cnn]", "takes no argument batch_norm"),
    ],
)
def test_a_key_that_nothing_reads_or_that_is_missing_is_refused(override: str, expected: str) -> None:
    assert expected in refusal(override)


def test_a_new_key_at_the_top_can_be_a_variable() -> None:
    assert is_accepted("+width=8", "model.widths=[${width}]")


def test_a_typo_in_a_recipe_is_found(elsewhere: Path) -> None:
    recipe = elsewhere / "conf/experiment/mine.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("# @package _global_\ncheckpoint:\n  kep: 3\n")
    assert "did you mean  checkpoint.keep" in refusal("experiment=mine")
    recipe.write_text("# @package _global_\ntracking:\n  uri: 3\n")
    assert "tracking.uri=3 is a whole number; expected text" in refusal("experiment=mine")


class TestTargets:
    @pytest.mark.parametrize(
        "target, expected",
        [
            ("pipeline.models.cnn.CNNN", "did you mean  pipeline.models.cnn.CNN ?"),
            ("pipeline.modles.cnn.CNN", "did you mean  pipeline.models.cnn.CNN ?"),
            (
                "pipeline.models.cnn",
                "is a module; expected a class or a function in it\n  it has: pipeline.models.cnn.CNN",
            ),
            ("torch.nn.Linaer", "did you mean  torch.nn.Linear"),
            ("pytorch_lightnin.Trainer", "did you mean  pytorch_lightning.Trainer ?"),
            ("surely_not_here.Net", "there is no package surely_not_here"),
            ("os.system", "is not in a package that a configuration may call"),
            ("pipeline.system.files.write_atomically", "is not in a package that a configuration may call"),
            ("torch.hub.load", "to allow it  'allow_packages=[torch]'"),
            ("cnn", "there is no package cnn"),
            ("'a b'", "expected the dotted path of a class"),
            ("5", "expected the dotted path of a class"),
        ],
    )
    def test_a_target_that_is_wrong_or_not_allowed_is_refused(self, target: str, expected: str) -> None:
        assert expected in refusal(f"model._target_={target}")

    def test_a_users_own_package_must_be_allowed(self, their_package: str) -> None:
        target = f"model._target_={their_package}.nets.Net"
        own = [target, "~model.widths", "~model.depth", "~model.dropout", "+model.width=3"]
        assert f"'allow_packages=[{their_package}]'" in refusal(*own)
        assert is_accepted(*own, f"allow_packages=[{their_package}]")
        assert "model.width=x is text; expected a whole number" in refusal(
            *own, f"allow_packages=[{their_package}]", "model.width=x"
        )

    def test_a_nested_target_is_held_to_the_same_list(self) -> None:
        assert "x.0._target_=os.system" in refusal("+callbacks.x=[{_target_: os.system, command: id}]")

    @pytest.mark.parametrize("packages", ["my_package", "[my.package]", "[3]"])
    def test_the_list_is_a_list_of_packages(self, packages: str) -> None:
        assert "expected a list of top-level packages" in refusal(f"allow_packages={packages}")

    def test_arguments_given_at_run_time_are_not_missing(self, their_package: str) -> None:
        needs = [f"model._target_={their_package}.nets.Needs", f"allow_packages=[{their_package}]", "+model.size=1"]
        assert is_accepted(*needs, "~model.widths", "~model.depth", "~model.activation", "~model.dropout")


def test_what_is_searched_includes_what_is_shipped() -> None:
    assert shipped_folder() in config_folders()
