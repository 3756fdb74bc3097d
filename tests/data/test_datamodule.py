"""The data module by itself, and in Lightning's hands."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch
from torch import Tensor, nn

from pipeline.data.datamodule import DataModule
from pipeline.data.dataset import Split, Splits
from pipeline.data.loader import EvaluationLoader, TrainLoader, TrainTuples
from pipeline.errors import ConfigError, DataError
from pipeline.spec import Batch

DEFAULTS: dict[str, Any] = {
    "root": None,
    "batch_size": 8,
    "evaluation_batch_size": 6,
    "train_fraction": 1.0,
    "seed": 0,
}


class Numbers:
    """Images filled with their row number; labels 0 to 4 in turn."""

    def __init__(self, *, sizes: tuple[int, int, int] = (100, 20, 10), labels: int = 5) -> None:
        self.sizes = sizes
        self.labels = labels
        self.roots: list[Path | None] = []

    def load(self, root: Path | None) -> Splits:
        self.roots.append(root)

        def part(size: int) -> Split:
            rows = torch.arange(size)
            return Split(rows.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2), rows % self.labels)

        train, validation, test = map(part, self.sizes)
        return Splits("numbers", "image", "multiclass", tuple("abcde"), train, validation, test)


def data_module(source: Any = None, **options: Any) -> DataModule:
    return DataModule(source=source or Numbers(), **(DEFAULTS | options))


class Constant:
    """The targets of each part, as they are."""

    def __init__(self, task: Any, *, train: list[Any], validation: list[Any]) -> None:
        self.task, self.plain = task, (train, validation, validation)

    def load(self, root: Path | None) -> Splits:
        targets = [torch.tensor(each) for each in self.plain]
        parts = [Split(torch.zeros(len(each), 3), each) for each in targets]
        return Splits("mine", "table", self.task, tuple("ab") if self.task == "binary" else (), *parts)


class TestTargetsThatDoNotVary:
    @pytest.mark.parametrize(
        "task, always, other, said",
        [
            ("binary", [1] * 8, [0, 1], "8 samples have the target b"),
            ("regression", [[2.5]] * 8, [[1.0], [2.0]], "2.5"),
        ],
    )
    def test_there_is_nothing_to_learn(self, task: Any, always: list[Any], other: list[Any], said: str) -> None:
        with pytest.raises(DataError, match=rf"mine's train split: all .*{said}, so there is nothing to learn"):
            data_module(Constant(task, train=always, validation=other)).load()

    @pytest.mark.parametrize(
        "task, always, other", [("binary", [1, 1], [0, 1] * 4), ("regression", [[2.5], [2.5]], [[1.0], [2.0]] * 4)]
    )
    def test_a_validation_part_of_one_is_warned_of(
        self, task: Any, always: list[Any], other: list[Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        data_module(Constant(task, train=other, validation=always)).load()
        assert "mine's validation split: all 2 samples have the target" in caplog.text


class TestLoading:
    def test_the_source_is_asked_once_and_for_the_folder_the_user_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/home/someone")
        source = Numbers()
        data = data_module(source, root="~/digits")
        spec = data.load()
        data.setup("fit")
        assert data.load() is data.spec is spec
        assert source.roots == [Path("/home/someone/digits")]

    def test_making_one_touches_nothing(self) -> None:
        source = Numbers()
        data_module(source)
        assert source.roots == []

    def test_a_fraction_keeps_the_classes_and_leaves_the_other_parts_alone(self) -> None:
        data = data_module(train_fraction=0.3)
        assert data.load().sizes == {"train": 30, "validation": 20, "test": 10}
        assert torch.bincount(data.splits.train.targets).tolist() == [6] * 5
        smaller = data_module(train_fraction=0.2)
        rows = [set(each.splits.train.inputs[:, 0, 0, 0].tolist()) for each in (smaller, data)]
        assert rows[0] < rows[1]

    def test_training_samples_that_stand_in_another_part_are_left_out_when_that_is_asked_for(self) -> None:
        kept, cleaned = data_module(), data_module(on_copies="drop")
        assert [len(part) for part in kept.splits.by_name().values()] == [100, 20, 10]
        assert [len(part) for part in cleaned.splits.by_name().values()] == [80, 20, 10]
        assert cleaned.splits.train.inputs.min() == 20
        assert kept.load().digest != cleaned.load().digest

    def test_folds_take_turns_at_validating_and_leave_the_test_part_alone(self) -> None:
        each = [data_module(folds=4, fold=fold) for fold in range(4)]
        assert all(data.load().sizes == {"train": 90, "validation": 30, "test": 10} for data in each)
        held = torch.cat([data.splits.validation.inputs[:, 0, 0, 0] for data in each])
        assert sorted(held.tolist()) == sorted([*range(100), *range(20)])
        assert len({data.spec.digest for data in each}) == 4
        assert {tuple(data.splits.test.inputs[:, 0, 0, 0].tolist()) for data in each} == {tuple(range(10))}

    @pytest.mark.parametrize(
        "asked, told",
        [
            ({"folds": 1}, r"data\.folds=1: expected 2 or more"),
            ({"folds": 5, "fold": 5}, r"data\.fold=5: expected 0 to 4"),
            ({"fold": 2}, r"data\.fold=2: expected 0 as long as data\.folds is null"),
            ({"folds": 121}, r"data\.folds=121 is more than the 120 samples to divide; use at most data\.folds=120"),
        ],
    )
    def test_folds_that_cannot_be_are_refused(self, asked: dict[str, int], told: str) -> None:
        with pytest.raises(ConfigError, match=told):
            data_module(**asked).load()

    def test_examples_are_raw_inputs(self) -> None:
        assert torch.equal(data_module().example(2), torch.tensor([[0] * 4, [1] * 4]).view(2, 1, 2, 2))


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        "options, reason",
        [
            ({"batch_size": 0}, "data.batch_size=0: a batch needs at least 1"),
            ({"evaluation_batch_size": -1}, "data.evaluation_batch_size=-1: a batch needs"),
            (
                {"batch_size": 100, "world_size": 3},
                "split over 3 processes; use a multiple of 3, such as 102",
            ),
            ({"train_fraction": 0.0}, "data.train_fraction=0: expected more than 0 and at most 1"),
            ({"train_fraction": 1.5}, "data.train_fraction=1.5: expected more than 0 and at most 1"),
        ],
    )
    def test_settings_that_cannot_work(self, options: dict[str, Any], reason: str) -> None:
        with pytest.raises(ConfigError, match=reason):
            data_module(**options)

    @pytest.mark.parametrize(
        "source, options, reason",
        [
            (
                Numbers(),
                {"batch_size": 101},
                "batch_size=101 is more than the 100 training samples of numbers",
            ),
            (Numbers(), {"batch_size": 8, "train_fraction": 0.05}, "more than the 5 .*train_fraction=0.05"),
            (Numbers(sizes=(100, 0, 10)), {}, "numbers's validation split is empty"),
            (Numbers(labels=6), {}, "numbers's train split: row 5 has the label 5, expected 0 to 4"),
        ],
    )
    def test_data_that_cannot_work(self, source: Numbers, options: dict[str, Any], reason: str) -> None:
        with pytest.raises(DataError, match=reason):
            data_module(source, **options).load()


class Watcher(lightning.LightningModule):
    """Performs every step of a Chunk by hand and remembers what it saw."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.layer = nn.Linear(4, 5)
        self.steps: list[tuple[int, list[int]]] = []
        self.evaluated: list[tuple[int, list[int]]] = []
        self.stop_after = stop_after

    def training_step(self, chunk: Any, _: int) -> None:
        optimizer = self.optimizers()
        for micro_batches in chunk:
            ids = [row for batch in micro_batches for row in batch.ids.tolist()]
            self.steps.append((self.current_epoch, ids))
            optimizer.step()
            if len(self.steps) == self.stop_after:
                raise KeyboardInterrupt

    def validation_step(self, batch: Batch, _: int) -> None:
        self.evaluated.append((self.current_epoch, batch.ids.tolist()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, epochs: int) -> lightning.Trainer:
    return lightning.Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


class TestInLightning:
    def test_the_loaders_arrive_as_they_are_and_every_epoch_has_its_own_order(self, tmp_path: Path) -> None:
        data, watcher = data_module(log_every_n_steps=5), Watcher()
        fit = trainer(tmp_path, epochs=3)
        fit.fit(watcher, datamodule=data)
        assert isinstance(fit.train_dataloader, TrainLoader)
        assert isinstance(fit.val_dataloaders, EvaluationLoader)
        assert fit.global_step == len(watcher.steps) == 3 * data.steps_per_epoch == 36
        for epoch in range(3):
            alone = TrainLoader(data.splits.train, batch_size=8, seed=0, epoch=lambda now=epoch: now)
            expected = [(epoch, batch.ids.tolist()) for chunk in alone for (batch,) in chunk]
            assert watcher.steps[12 * epoch : 12 * epoch + 12] == expected
        rows = [row for epoch, ids in watcher.evaluated if epoch == 2 for row in ids]
        assert rows == list(range(20))

    def test_the_position_goes_through_lightnings_checkpoints(self, tmp_path: Path) -> None:
        data, watcher = data_module(log_every_n_steps=5), Watcher(stop_after=17)
        fit = trainer(tmp_path, epochs=2)
        with pytest.raises(SystemExit):  # what Lightning makes of an interruption
            fit.fit(watcher, datamodule=data)
        (state,) = fit.fit_loop.state_dict()["state_dict"]["combined_loader"]
        assert state == {"epoch": 1, "step": 5}

    def test_an_epoch_whose_steps_are_all_done_is_still_validated(self, tmp_path: Path) -> None:
        class Resumed(DataModule):
            def train_dataloader(self) -> TrainLoader | TrainTuples:
                loader = super().train_dataloader()
                loader.load_state_dict({"epoch": 0, "step": 12})
                return loader

        watcher = Watcher()
        trainer(tmp_path, epochs=2).fit(watcher, datamodule=Resumed(source=Numbers(), **DEFAULTS))
        assert [epoch for epoch, _ in watcher.steps] == [1] * 12
        assert [epoch for epoch, _ in watcher.evaluated] == [0] * 4 + [1] * 4


class Users(lightning.LightningModule):
    """A module as anyone might bring along: knows neither Batch nor Chunk."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 5)
        self.seen: list[list[int]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        images, labels = batch
        self.seen.append(images[:, 0, 0, 0].tolist())
        return nn.functional.cross_entropy(self.layer(images.flatten(1).float()), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        images, labels = batch
        assert images.dtype == torch.uint8
        assert len(images) == len(labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_users_own_module_gets_pairs_one_batch_at_a_time(tmp_path: Path) -> None:
    data, module = data_module(accumulate=3), Users()
    data.use_tuples()
    fit = trainer(tmp_path, epochs=2)
    fit.fit(module, datamodule=data)
    assert len(module.seen) == fit.global_step == 24
    assert all(sorted(set(rows)) == sorted(rows) for rows in module.seen)
    assert fit.fit_loop.state_dict()["state_dict"]["combined_loader"] == [{"epoch": 1, "step": 12}]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_the_data_lies_there_and_the_batches_are_the_same(tmp_path: Path) -> None:
    data, watcher = data_module(), Watcher()
    fit = lightning.Trainer(
        default_root_dir=tmp_path, max_epochs=1, accelerator="gpu", devices=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False,
    )  # fmt: skip
    fit.fit(watcher, datamodule=data)
    assert fit.train_dataloader.split.inputs.device.type == "cuda"
    alone = TrainLoader(data.splits.train, batch_size=8, seed=0, epoch=lambda: 0)
    assert [ids for _, ids in watcher.steps] == [batch.ids.tolist() for chunk in alone for (batch,) in chunk]
