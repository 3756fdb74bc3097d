"""From a configuration to what learns and what it learns from, and every mistake that shows only there."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from pipeline.config import instantiate
from pipeline.config.compose import compose
from pipeline.errors import UserError
from pipeline.lifecycle import build as assembling
from pipeline.lifecycle.build import Components
from pipeline.lifecycle.trainer import build_trainer, check_monitors, check_transforms
from pipeline.system.process import SINGLE_PROCESS, Rank
from pipeline.training.callbacks.hooks import BatchTransform
from pipeline.training.callbacks.mixup_cutmix import CutMix, MixUp
from pipeline.training.learner import Learner
from pipeline.training.task import PerceptronTask

PACKAGE = """
    import pytorch_lightning as pl
    import torch
    from torch import nn
    from pipeline.data.dataset import Split, Splits

    class Noise:
        def __init__(self, *, labels: int = 4, empty: str = "", size: int = 8) -> None:
            self.labels, self.empty, self.size = labels, empty, size

        def load(self, root):
            def part(name, count):
                count = 0 if name == self.empty else count
                images = torch.zeros(count, 1, self.size, self.size, dtype=torch.uint8)
                return Split(images, torch.arange(count) % self.labels)
            parts = {name: part(name, count) for name, count in (("train", 256), ("validation", 64), ("test", 64))}
            return Splits(name="noise", kind="image", task="multiclass", class_names=tuple("abcd"), **parts)

    class Plain(pl.LightningDataModule):
        pass

    class NeedsSpec(nn.Module):
        def __init__(self, *, spec) -> None:
            super().__init__()
            self.layer = nn.Linear(1, spec.num_classes)

    class TwoScores(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :2]

    class WrongInput(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x):
            return self.layer(x)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 4)

    class WithLoader(Module):
        def train_dataloader(self):
            return []

    class Endless(torch.utils.data.IterableDataset):
        pass

    class Stream(pl.LightningDataModule):
        '''Says what it is, but not how long.'''
        @property
        def spec(self):
            from pipeline.data.data_spec import build_data_spec
            return build_data_spec(Noise().load(None))

        def train_dataloader(self):
            return torch.utils.data.DataLoader(Endless())

    class _Other(nn.Module):
        '''As the package lightning has it.'''

    _Other.__module__ = "lightning.pytorch.core.module"

    class OfLightning(_Other):
        pass
"""
OWN = ("allow_packages=[assembled]", "data.source._target_=assembled.Noise", "data.batch_size=32", "model.widths=[4]")


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    place = tmp_path_factory.mktemp("theirs")
    (place / "assembled.py").write_text(dedent(PACKAGE))
    sys.path.append(str(place))
    yield
    sys.path.remove(str(place))


def assemble(*overrides: str, place: Rank = SINGLE_PROCESS, **nodes: str) -> Components:
    """`nodes` are targets in place of whole nodes, as a YAML file of the user's own would have them."""
    config = compose([*OWN, *overrides]).config
    for name, target in nodes.items():
        config[name] = {"_target_": target}
    return assembling.build_components(config, place)


def refusal(*overrides: str, **nodes: str) -> str:
    with pytest.raises(UserError) as caught:
        assemble(*overrides, **nodes)
    return str(caught.value)


class TestWhatIsBuilt:
    def test_a_model_knows_its_data_and_the_schedule_its_length(self) -> None:
        assembly = assemble("trainer.max_epochs=3")
        assert isinstance(assembly.module, Learner) and assembly.spec is not None
        assert assembly.spec.num_classes == 4
        assert (assembly.steps_per_epoch, assembly.total_steps) == (8, 24)
        assert assembly.headline == "val/accuracy"

    @pytest.mark.parametrize(
        "overrides, steps",
        [
            (("trainer.max_steps=5",), 5),
            (("trainer.max_steps=500", "trainer.max_epochs=2"), 16),
            (("trainer.max_epochs=null", "trainer.max_steps=7"), 7),
            (("trainer.max_epochs=2", "trainer.accumulate_grad_batches=3"), 6),
        ],
    )
    def test_training_ends_with_its_epochs_or_its_steps(self, overrides: tuple[str, ...], steps: int) -> None:
        assert assemble(*overrides).total_steps == steps

    def test_the_first_weights_depend_on_the_seed_alone(self) -> None:
        first, again, other = (assemble(seed).module.state_dict() for seed in ("seed=3", "seed=3", "seed=4"))
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not all(torch.equal(first[name], other[name]) for name in first)

    def test_the_first_weights_are_those_of_the_initialization_that_is_chosen(self) -> None:
        words = ("model=mlp", "initialization=orthogonal", "seed=3")
        first, again = (assemble(*words).module.state_dict() for _ in range(2))
        assert all(torch.equal(first[name], again[name]) for name in first)
        weight = first["network.body.layers.5.weight"]
        torch.testing.assert_close(weight @ weight.T, torch.eye(len(weight)), atol=1e-5, rtol=0)

    def test_a_users_own_module_is_taken_as_it_is(self) -> None:
        assembly = assemble(model="assembled.Module")
        assert not isinstance(assembly.module, Learner) and isinstance(assembly.module, pl.LightningModule)
        assert assembly.metric_names is None and assembly.total_steps is None


class TestTheTask:
    """Follows from the data, and the model from the task."""

    @pytest.mark.parametrize(
        "data, outputs, headline",
        [
            ("iris", 3, "val/accuracy"),
            ("breast_cancer", 1, "val/accuracy"),
            ("diabetes", 1, "val/r2"),
        ],
    )
    def test_the_task_of_a_table_follows_from_its_target_column(self, data: str, outputs: int, headline: str) -> None:
        assembly = assembled(f"data={data}", "model=mlp")
        assert assembly.spec is not None and assembly.spec.num_outputs == outputs
        assert assembly.headline == headline

    def test_the_task_may_differ_from_what_the_data_suggest(self) -> None:
        assembly = assembled("data=breast_cancer", "model=softmax_regression", "task=classification")
        assert assembly.spec is not None and (assembly.spec.task, assembly.spec.num_outputs) == ("multiclass", 2)

    def test_a_perceptron_brings_its_own_task(self) -> None:
        module = assembled("data=iris", "data.source.positive=setosa", "model=perceptron").module
        assert isinstance(module, Learner) and isinstance(module.task, PerceptronTask)

    @pytest.mark.parametrize(
        "overrides, expected",
        [
            (("data=iris", "model=perceptron"), "iris has 3 (setosa, versicolor, virginica): use"),
            (("data=iris", "model=logistic_regression"), "iris has 3 classes (multiclass): use model=softmax_regr"),
            (("data=iris", "model=linear_regression"), "iris has 3 classes (multiclass): use model=softmax_regr"),
            (("data=diabetes", "model=softmax_regression"), "diabetes has a number (regression): use model=linear_r"),
            (("data=breast_cancer", "model=softmax_regression"), "2 classes (binary): use model=logistic_regression"),
            (("data=wine", "model=resnet"), "wine has inputs of shape (13,): use model=mlp"),
            (("data=diabetes", "model=mlp", "task=classification"), "no classes: use task=regression"),
            (("data=diabetes", "model=mlp", "task.label_smoothing=0.1"), "diabetes has a number to predict"),
        ],
    )
    def test_a_task_that_does_not_fit_is_refused_before_training(
        self, overrides: tuple[str, ...], expected: str
    ) -> None:
        with pytest.raises(UserError) as caught:
            assembled(*overrides)
        assert expected in str(caught.value)


def assembled(*overrides: str) -> Components:
    """Of what is shipped alone."""
    return assembling.build_components(compose(list(overrides)).config, SINGLE_PROCESS)


class TestIsRefused:
    @pytest.mark.parametrize(
        "overrides, expected",
        [
            (("+data.source.labels=5",), ["noise's train split", "label 4", "expected 0 to 3"]),
            (("+data.source.empty=validation",), ["noise's validation split is empty", "at least one sample"]),
            (("data.batch_size=257",), ["data.batch_size=257", "256 training samples", "use at most 256"]),
            (("model.widths=[4,4,4,4]",), ["8x8 images 4 times", "use at most 3 blocks"]),
            (("model.activation=rely",), ["'rely' is not known", "relu, leaky_relu"]),
            (("scheduler.warmup_epochs=20",), ["warmup_epochs=20 does not fit into 10 epochs"]),
            (("optimizer.betas=[0.9,1.5]",), ["optimizer or scheduler", "1.5"]),
        ],
    )
    def test_a_part_that_does_not_fit_the_data_is_refused(
        self, overrides: tuple[str, ...], expected: list[str]
    ) -> None:
        message = refusal(*overrides)
        assert [words for words in expected if words not in message] == []

    @pytest.mark.parametrize(
        "model, expected",
        [
            ("assembled.TwoScores", ["returns (2, 2) for 2 samples", "expected (2, 4)", "one score for each"]),
            ("assembled.WrongInput", ["cannot take noise's inputs of shape (2, 1, 8, 8)"]),
            ("assembled.Noise", ["model._target_=assembled.Noise is not a torch.nn.Module"]),
            ("assembled.OfLightning", ["made for the package lightning", "import pytorch_lightning as L"]),
        ],
    )
    def test_a_model_that_does_not_score_the_classes_is_refused(self, model: str, expected: list[str]) -> None:
        message = refusal(model=model)
        assert [words for words in expected if words not in message] == []

    @pytest.mark.parametrize("model", ["assembled.NeedsSpec", "assembled.TwoScores"])
    def test_a_data_module_without_a_spec_is_refused_for_a_model_that_needs_one(self, model: str) -> None:
        message = refusal(data="assembled.Plain", model=model)
        assert "data=Plain has no `spec`" in message and model in message and "pipeline.spec.DataSpec" in message

    def test_data_of_unknown_length_are_refused_without_a_number_of_steps(self) -> None:
        assert "such as trainer.max_steps=1000" in refusal(data="assembled.Stream")
        assert assemble("trainer.max_steps=20", data="assembled.Stream").total_steps == 20

    def test_an_unused_loader_of_the_module_is_warned_about(self, caplog: pytest.LogCaptureFixture) -> None:
        assemble(model="assembled.WithLoader")
        assert "WithLoader has a train_dataloader of its own, which is not used" in caplog.text

    def test_data_that_are_no_data_module_are_refused(self) -> None:
        message = refusal(data="assembled.Noise")
        assert "is not a LightningDataModule" in message and "data.source._target_" in message

    def test_a_monitor_that_nothing_produces_is_refused(self) -> None:
        stopping = pl.callbacks.EarlyStopping(monitor="val/acuracy")
        with pytest.raises(
            UserError, match=r"monitors val/acuracy, which nothing produces; choose one of .*val/accuracy"
        ):
            check_monitors([stopping], assemble())
        check_monitors([pl.callbacks.EarlyStopping(monitor="val/f1_macro")], assemble())

    @pytest.mark.parametrize(
        "callback, data, expected",
        [
            ("mixup", "iris", None),
            ("mixup", "mnist5k", None),
            (
                "cutmix",
                "iris",
                "cutmix needs images (channels, height, width); iris has table data of shape (4,): leave",
            ),
            ("augmentation", "iris", "augmentation needs images (channels, height, width); iris has table data"),
            ("swap_noise", "mnist5k", "swap_noise needs tables; mnist5k has image data of shape (1, 28, 28): leave"),
            ("feature_noise", "mnist5k", "feature_noise needs tables"),
            (
                "token_dropout",
                "iris",
                "token_dropout needs text; iris has table data of shape (4,): leave it out, ~call",
            ),
            ("time_shift", "iris", "time_shift needs sound; iris has table data"),
        ],
    )
    def test_a_callback_that_cannot_change_this_data_is_refused(
        self, callback: str, data: str, expected: str | None
    ) -> None:
        config = compose([f"data={data}", "model=mlp", f"callbacks=[default,{callback}]"]).config
        callbacks = list(instantiate.instantiate(config.callbacks, config).values())
        assembly = assembling.build_components(config, SINGLE_PROCESS)
        if expected is None:
            check_transforms(callbacks, assembly)
        else:
            with pytest.raises(UserError) as caught:
                check_transforms(callbacks, assembly)
            assert expected in str(caught.value)

    def test_mixing_of_tokens_is_refused(self) -> None:
        assembly = assemble()
        assert assembly.spec is not None
        sentences = replace(assembly.spec, name="reviews", kind="text", input_shape=(9,))
        with pytest.raises(
            UserError, match=r"mixup needs images .* or tables or sound; reviews has text data of shape"
        ):
            check_transforms([MixUp(alpha=1.0, p=1.0)], replace(assembly, spec=sentences))

    @pytest.mark.parametrize("callback", [MixUp(alpha=1.0, p=1.0), CutMix(alpha=1.0, p=1.0)])
    def test_mixing_of_pairs_that_lie_in_two_processes_is_refused(self, callback: BatchTransform) -> None:
        place = Rank(rank=0, world_size=2, local_rank=0, local_world_size=2)
        with pytest.raises(UserError, match=r"data\.batch_size=6 gives each of 2 processes 3, .* data\.batch_size=8$"):
            check_transforms([callback], assemble("data.batch_size=6", place=place))
        check_transforms([callback], assemble("data.batch_size=8", place=place))
        check_transforms([callback], assemble("data.batch_size=7"))

    def test_a_batch_transform_that_nothing_calls_is_refused(self) -> None:
        class Blur(pl.Callback):
            def transform_batch(self, trainer: Any, batch: Any) -> Any:
                return batch

        with pytest.raises(UserError, match=r"Blur has a transform_batch .*callbacks\.hooks\.BatchTransform"):
            check_transforms([Blur()], assemble())

    @pytest.mark.parametrize("setting", ["trainer.precision=17", "trainer.accelerator=abacus", "trainer.strategy=ddpp"])
    def test_a_setting_that_lightning_does_not_know_is_refused(self, setting: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"^trainer: "):
            trainer(tmp_path, setting)


def trainer(folder: Path, *overrides: str) -> Any:
    config = compose([*OWN, *overrides]).config
    return build_trainer(config, components=assemble(), callbacks=[], loggers=False, folder=folder, rank=SINGLE_PROCESS)


@pytest.mark.parametrize("precision", ["64", "64-true", "bf16-true"])
def test_weights_of_another_precision_leave_batches_as_they_are(tmp_path: Path, precision: str) -> None:
    built = trainer(tmp_path, f"trainer.precision={precision}")
    batch = assemble().data.example(2)
    assert built.precision_plugin.convert_input(batch) is batch


def test_the_trainer_does_not_repeat_what_the_learner_does_itself(tmp_path: Path) -> None:
    built = trainer(
        tmp_path, "trainer.gradient_clip_val=0.5", "trainer.accumulate_grad_batches=2", "trainer.max_steps=9"
    )
    assert built.gradient_clip_val is None and built.accumulate_grad_batches == 1
    assert built.max_steps == 9 and built.loggers == []
