"""Every option in conf/, found by itself: whoever adds a YAML file has it tested."""

import re
import wave
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from PIL import Image
from tests.options import beside
from torch import nn

from pipeline.config import instantiate
from pipeline.config.checks.check_config import check_config
from pipeline.config.checks.missing_and_unread_keys import check_unread_keys
from pipeline.config.compose import compose
from pipeline.config.search_path import option_groups, shipped_folder
from pipeline.config.static.lookup import class_constant
from pipeline.data.datamodule import DataModule
from pipeline.errors import ConfigError
from pipeline.models.network import Network, spec_for_model
from pipeline.spec import DataSpec, TaskKind
from pipeline.training.task import Task

OPTIONS = option_groups([shipped_folder()])
DATA = Path(__file__).parents[3] / "shared/data"  # what a machine without a network may have
SPEC = DataSpec(
    name="tiny",
    kind="image",
    task="multiclass",
    input_shape=(3, 16, 16),
    class_names=("a", "b", "c"),
    mean=(100.0, 120.0, 140.0),
    std=(50.0, 60.0, 70.0),
)
COLUMNS = replace(
    SPEC, kind="table", input_shape=(5,), mean=(1.0, 2.0, 3.0, 4.0, 5.0), std=(1.0,) * 5, feature_names=tuple("vwxyz")
)
NAMES = replace(
    COLUMNS, mean=(1.0, 0.0, 3.0, 4.0, 0.0), std=(1.0, 0.0, 1.0, 1.0, 0.0),
    categories=((), ("any other", "Rome", "Oslo"), (), (), tuple(map(str, range(256)))),
)  # fmt: skip
SENTENCES = replace(SPEC, kind="text", input_shape=(9,), mean=(), std=(), vocabulary_size=50)
SOUNDS = replace(SPEC, kind="audio", input_shape=(1600,), mean=(), std=(), sample_rate=8000)
ASKED: list[dict[str, Any]] = [
    {"task": "multiclass"},
    {"task": "binary", "class_names": ("no", "yes")},
    {"task": "multilabel", "class_names": ("funny", "sad", "long", "short")},
    {"task": "regression", "class_names": (), "target_mean": (150.0,), "target_std": (70.0,)},
]
SPECS = [replace(data, **asked) for data in (SPEC, COLUMNS, NAMES, SENTENCES, SOUNDS) for asked in ASKED]
STORED = {
    "image": [torch.uint8],
    "table": [torch.float32],
    "text": [torch.uint8, torch.int16, torch.int32],
    "audio": [torch.int16],
}
PACKAGES = {"timm": "timm", "hugging_face": "transformers"}  # what a model needs that is not installed by default
STEPS, STEPS_PER_EPOCH = 40, 10
RATE = 0.1


def of(group: str) -> Any:
    return pytest.mark.parametrize("option", OPTIONS[group])


@cache
def composed(group: str, option: str) -> Any:
    """Read once, for all kinds of data; nobody changes it."""
    return compose([f"{group}={option}"]).config


def built(group: str, option: str, **offered: Any) -> Any:
    config = composed(group, option)
    return instantiate.instantiate(config[group], config, **offered)


def inputs(spec: DataSpec, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    highest = spec.vocabulary_size or 256
    numbers = torch.randint(0, highest, (count, *spec.input_shape), dtype=torch.uint8, generator=generator)
    match spec.kind:
        case "table":
            return numbers.float()
        case "audio":
            return 100 * (numbers.short() - 128)
    return numbers


def networks(option: str) -> Iterator[tuple[DataSpec, Network]]:
    """For all kinds of data that this model takes."""
    if option in PACKAGES:
        pytest.importorskip(PACKAGES[option])
    for spec in SPECS:
        with suppress(ConfigError):
            yield spec, Network(body=built("model", option, spec=spec_for_model(spec)), spec=spec)


def test_every_group_of_the_issue_has_options() -> None:
    assert OPTIONS.keys() >= {
        "data", "model", "optimizer", "scheduler", "regularizer", "callbacks", "trainer", "tracking", "task",
        "checkpoint", "launch", "experiment",
    }  # fmt: skip
    assert all(OPTIONS.values())


@pytest.mark.parametrize("group, option", [(group, option) for group in OPTIONS for option in OPTIONS[group]])
def test_it_composes_and_its_arguments_fit_as_written_and_as_imported(group: str, option: str) -> None:
    primary = "search" if group.partition("/")[0] == "search" else "train"
    written = compose([f"{group}={option}", *beside(group, option)], config_name=primary)
    check_unread_keys(written)
    check_config(written.config, written.shipped)
    instantiate.check_signatures(written.config)


def test_whatever_has_no_default_says_beside_it_what_to_give() -> None:
    lines = [line for path in shipped_folder().rglob("*.yaml") for line in path.read_text().splitlines()]
    assert [line for line in lines if re.search(r"\?\?\?\s*$", line)] == []


class TestModels:
    @of("model")
    def test_raw_inputs_become_the_scores_that_are_asked_for(self, option: str) -> None:
        taken = list(networks(option))
        assert taken
        for spec, network in taken:
            scores = network(inputs(spec, 4))
            assert scores.shape == (4, spec.num_outputs) and scores.dtype == torch.float32
            assert torch.isfinite(scores).all()

    @of("model")
    def test_what_it_does_not_take_is_refused_with_what_was_found_and_what_does_fit(self, option: str) -> None:
        taken = [spec for spec, _ in networks(option)]
        for spec in (each for each in SPECS if each not in taken):
            with pytest.raises(ConfigError, match=rf"(?s)model={option} .*{spec.name} has .*: use model="):
                built("model", option, spec=spec_for_model(spec))

    @of("model")
    def test_it_takes_what_its_class_states(self, option: str) -> None:
        config = composed("model", option)
        kinds, tasks = (class_constant(config.model._target_, name) for name in ("kinds", "tasks"))
        taken = {(spec.kind, spec.task) for spec, _ in networks(option)}
        assert taken == set(product(kinds, tasks or get_args(TaskKind)))

    @of("model")
    def test_every_weight_gets_a_gradient(self, option: str) -> None:
        for spec, network in networks(option):
            network(inputs(spec, 8)).square().sum().backward()
            without = [name for name, each in network.named_parameters() if each.grad is None or not each.grad.any()]
            assert without == []

    @of("model")
    def test_a_sample_is_judged_alike_alone_and_among_others(self, option: str) -> None:
        for spec, network in networks(option):
            network.eval()
            with torch.no_grad():
                four, one = network(inputs(spec, 4)), network(inputs(spec, 4)[:1])
            torch.testing.assert_close(four[:1], one, rtol=1e-4, atol=1e-5)


class TestInitializations:
    @of("initialization")
    def test_the_same_seed_gives_the_same_weights_and_every_model_stays_finite(self, option: str) -> None:
        initialization = built("initialization", option)
        for model in OPTIONS["model"]:
            spec, network = next(networks(model))
            drawn = []
            for _ in range(2):
                torch.manual_seed(1)
                with suppress(ConfigError):  # of a model without layers
                    initialization.apply(network)
                drawn.append({name: value.clone() for name, value in network.state_dict().items()})
            torch.testing.assert_close(drawn[0], drawn[1])
            assert torch.isfinite(network.eval()(inputs(spec, 4))).all(), model


class TestOptimizers:
    @of("optimizer")
    def test_one_step_lowers_a_quadratic(self, option: str) -> None:
        weight, bias = nn.Parameter(torch.full((2, 3), 2.0)), nn.Parameter(torch.full((3,), -2.0))
        optimizer = built("optimizer", option)(params=[weight, bias])
        before = (weight.square().sum() + bias.square().sum()) / 2
        before.backward()
        optimizer.step()
        assert (weight.square().sum() + bias.square().sum()) / 2 < before

    @of("optimizer")
    def test_biases_and_norms_are_never_decayed(self, option: str) -> None:
        layers = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        optimizer = built("optimizer", option)(params=layers.parameters())
        decayed = [each for group in optimizer.param_groups if group["weight_decay"] > 0 for each in group["params"]]
        assert decayed == [layers[0].weight]


class TestSchedulers:
    def rates(self, option: str) -> list[float]:
        """The learning rate of each step of a training, and one value more."""
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=RATE, momentum=0.9)
        scheduler = built("scheduler", option)(optimizer, total_steps=STEPS, steps_per_epoch=STEPS_PER_EPOCH)
        rates = []
        for _ in range(STEPS):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return rates

    @of("scheduler")
    def test_it_has_a_positive_value_for_each_step_and_peaks_at_the_optimisers(self, option: str) -> None:
        rates = self.rates(option)
        assert len(rates) == STEPS
        assert min(rates) > 0
        assert max(rates) == pytest.approx(RATE, rel=0.05)

    @of("scheduler")
    def test_after_its_peak_it_never_rises(self, option: str) -> None:
        rates = self.rates(option)
        falling = rates[rates.index(max(rates)) :]
        assert falling == sorted(falling, reverse=True)

    def test_only_constant_ends_where_it_began(self) -> None:
        ends = {option: self.rates(option)[-1] for option in OPTIONS["scheduler"]}
        assert {option for option, end in ends.items() if end > RATE / 10} == {"constant"}


@of("regularizer")
def test_a_regularizer_pushes_weights_towards_zero_and_leaves_biases(option: str) -> None:
    network = nn.Linear(3, 2)
    for regularizer in built("regularizer", option).values():
        penalty = regularizer.penalty(network)
        penalty.backward()
        assert penalty.ndim == 0 and penalty > 0
        assert network.weight.grad is not None
        assert torch.equal(network.weight.grad.sign(), network.weight.sign())
        assert network.bias.grad is None


@of("callbacks")
def test_callbacks_are_lightnings(option: str) -> None:
    callbacks = built("callbacks", option)
    assert all(isinstance(each, pl.Callback) for each in callbacks.values())
    assert bool(callbacks) == (option != "none")


@of("task")
def test_a_task_scores_each_sample_and_names_its_headline(option: str) -> None:
    taken = 0
    for spec in SPECS:
        task: Task | None = None
        with suppress(ConfigError):
            task = built("task", option, spec=spec)
        if task is None:
            continue
        taken += 1
        states = class_constant(composed("task", option).task._target_, "tasks")
        assert states is None or spec.task in states
        asked = replace(spec, task=task.kind)
        scores, numbers = torch.randn(6, asked.num_outputs), task.kind == "regression"
        targets = torch.randn(6, 1) if numbers else torch.arange(6) % spec.num_classes
        if task.kind == "multilabel":
            targets = (torch.randn(6, spec.num_classes) > 0).float()
        assert task.losses(scores, targets).shape == (6,)
        assert task.loss(scores, targets).shape == ()
        assert task.loss(scores, targets) == pytest.approx(float(task.losses(scores, targets).mean()), rel=1e-5)
        assert task.sample_metrics(scores, targets).keys() == set(task.sample_metric_names)
        assert task.predictions(scores).shape == (6, 1 if numbers else spec.num_classes)
        metrics = task.metrics()
        metrics.update(task.predictions(scores), targets)
        assert task.headline in metrics.compute()
    assert taken


@of("trainer")
def test_a_trainer_is_lightnings(option: str) -> None:
    config: DictConfig = compose([f"trainer={option}"]).config
    assert config.trainer._target_ == "pytorch_lightning.Trainer"


@of("data")
def test_data_comes_in_three_parts_of_which_the_network_sees_raw_values(option: str, tmp_path: Path) -> None:
    data: DataModule = opened(option, tmp_path)
    spec = data.load()
    states = {name: class_constant(composed("data", option).data.source._target_, name) for name in ("kind", "task")}
    assert states["kind"] == spec.kind and states["task"] in (None, spec.task)
    assert set(spec.sizes) == {"train", "validation", "test"} and min(spec.sizes.values()) >= 30
    assert len(spec.digest) == 64 and len(spec.feature_names) == (spec.input_shape[0] if spec.kind == "table" else 0)
    assert (spec.vocabulary_size > 2) == (spec.kind == "text") and (spec.sample_rate > 0) == (spec.kind == "audio")
    (first_step, *_) = next(iter(data.train_dataloader()))
    (batch,) = first_step
    assert batch.inputs.shape == (data.batch_size, *spec.input_shape)
    assert batch.inputs.dtype in STORED[spec.kind]
    if spec.task == "regression":
        assert batch.targets.shape == (data.batch_size, spec.num_outputs) and batch.targets.dtype == torch.float32
    else:
        assert int(batch.targets.min()) >= 0 and int(batch.targets.max()) < spec.num_classes


def opened(option: str, folder: Path) -> DataModule:
    """As its YAML has it; with the user's own files where it needs them."""
    words = OWN[option](folder) if option in OWN else []
    # By download, or from the user alone.
    if option in ("mnist", "fashion_mnist", "sst2", "cifar10", "california_housing"):
        if not (DATA / option).is_dir():
            pytest.skip(f"{DATA / option} is not there")
        words = [f"data.root={DATA / option}"]
    config = compose([f"data={option}", *words]).config
    found: DataModule = instantiate.instantiate(config.data, config, seed=0)
    return found


def sentences(folder: Path) -> list[str]:
    rows = [f"a {'good' if number % 2 else 'bad'} film number {number},{number % 2}" for number in range(300)]
    (folder / "train.csv").write_text("\n".join(["text,label", *rows]))
    return [f"data.root={folder}"]


def pictures(folder: Path) -> list[str]:
    pixels = torch.randint(0, 256, (300, 5, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for number, each in enumerate(pixels):
        place = folder / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(each.numpy()).save(place)
    return [f"data.root={folder}"]


def houses(folder: Path) -> list[str]:
    rows = [f"{number},{number % 7}" for number in range(200)]
    (folder / "own.csv").write_text("\n".join(["price,size", *rows]))
    return [f"data.root={folder / 'own.csv'}", "data.source.target=price"]


def recordings(folder: Path) -> list[str]:
    for number in range(300):
        record(folder / "ab"[number % 2] / f"{number}.wav", number)
    return [f"data.root={folder}"]


def digits(folder: Path) -> list[str]:
    for number in range(400):
        record(folder / f"{number % 10}_ann_{number // 10}.wav", number)
    return [f"data.root={folder}"]


def record(path: Path, seed: int) -> None:
    noise = torch.randint(-999, 999, (80,), dtype=torch.int16, generator=torch.Generator().manual_seed(seed))
    path.parent.mkdir(exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, len(noise), "NONE", ""))
        file.writeframes(noise.numpy().tobytes())


OWN: dict[str, Callable[[Path], list[str]]] = {
    "text_table": sentences,
    "image_folder": pictures,
    "table": houses,
    "audio_folder": recordings,
    "spoken_digits": digits,
}
