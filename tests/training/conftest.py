"""A small network on a small real data set, trained by the real Learner under Lightning's real Trainer."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits

from pipeline.data.datamodule import DataModule
from pipeline.data.dataset import Split, Splits
from pipeline.models.cnn import CNN
from pipeline.models.network import Network
from pipeline.training import checkpoints, optimizers, schedules
from pipeline.training.callbacks.checkpointing import Checkpointing
from pipeline.training.callbacks.hooks import StepCallback
from pipeline.training.callbacks.monitors import TimedCheckpointIO
from pipeline.training.interruption import Interrupted, Interruption
from pipeline.training.learner import Learner
from pipeline.training.task import Classification


class Digits:
    """scikit-learn's 1,797 8x8 digits."""

    def load(self, root: Path | None) -> Splits:
        digits = load_digits()
        inputs = torch.from_numpy(digits.images).mul(15).to(torch.uint8).unsqueeze(1)
        targets = torch.from_numpy(digits.target).long()
        cut = [slice(0, 1000), slice(1000, 1400), slice(1400, None)]
        train, validation, test = (Split(inputs[rows], targets[rows]) for rows in cut)
        return Splits(
            name="digits",
            kind="image",
            task="multiclass",
            class_names=tuple("0123456789"),
            train=train,
            validation=validation,
            test=test,
        )


class InterruptAt(StepCallback):
    """What a signal does, at a step that the test chooses."""

    def __init__(self, interruption: Interruption, step: int | None) -> None:
        self.interruption, self.step = interruption, step

    def after_optimizer_step(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        if trainer.global_step == self.step:
            self.interruption.signal_number = 15


class Metrics(pl.loggers.CSVLogger):
    """Remembers what was logged instead of writing it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.rows.append((step, {name: value for name, value in metrics.items() if name != "epoch"}))

    def save(self) -> None: ...

    def named(self, name: str) -> list[tuple[int, float]]:
        return [(step, values[name]) for step, values in self.rows if name in values]


@pytest.fixture
def make_data() -> Callable[..., DataModule]:
    def make(**changes: Any) -> DataModule:
        settings = {
            "source": Digits(),
            "root": None,
            "batch_size": 50,
            "evaluation_batch_size": 200,
            "train_fraction": 1.0,
            "seed": 0,
            "log_every_n_steps": 8,
        }
        data = DataModule(**(settings | changes))
        data.load()
        return data

    return make


@pytest.fixture
def make_learner() -> Callable[..., Learner]:
    def make(data: DataModule, epochs: int = 3, **changes: Any) -> Learner:
        spec = data.spec
        body = CNN(spec=spec, widths=[8, 16], depth=1, activation="relu", dropout=0.2)
        settings = {
            "network": Network(body=body, spec=spec),
            "task": Classification(spec=spec, label_smoothing=0.0),
            "regularizers": [],
            "make_optimizer": partial(optimizers.adamw, learning_rate=1e-2, weight_decay=0.05, betas=[0.9, 0.999]),
            "schedule": schedules.Schedule(partial(schedules.one_cycle, warmup_share=0.25, warmup_epochs=None)),
            "steps_per_epoch": data.steps_per_epoch,
            "total_steps": data.steps_per_epoch * epochs,
            "seed": data.seed,
            "gradient_clip_val": 1.0,
            "gradient_clip_algorithm": "norm",
            "sync_batchnorm": True,
        }
        kind: type[Learner] = changes.pop("kind", Learner)
        return kind(**(settings | changes))

    return make


@pytest.fixture
def fit(tmp_path: Path, make_data: Any, make_learner: Any) -> Callable[..., Any]:
    """Trains in `folder`, from its newest checkpoint if there is one; returns (trainer, learner, metrics)."""

    def run(
        folder: Path | None = None,
        *,
        epochs: int = 3,
        interrupt_at: int | None = None,
        callbacks: Callable[[], list[pl.Callback]] = list,
        data: dict[str, Any] | None = None,
        learner: dict[str, Any] | None = None,
        checkpoint: dict[str, Any] | None = None,
        plugins: Sequence[Any] = (),
        **trainer_settings: Any,
    ) -> tuple[pl.Trainer, Learner, Metrics]:
        pl.seed_everything(0, verbose=False)
        place = folder or tmp_path / "run"
        data_module = make_data(**(data or {}))
        module = make_learner(data_module, epochs, **(learner or {}))
        interruption = Interruption()
        schedule = {"every_n_steps": None, "every_n_minutes": None, "keep": 2} | (checkpoint or {})
        metrics = Metrics(place)
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            devices=1,
            logger=metrics,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            plugins=[TimedCheckpointIO(), *plugins],
            callbacks=[
                InterruptAt(interruption, interrupt_at),
                *callbacks(),
                Checkpointing(folder=place, interruption=interruption, monitor="val/accuracy", mode="max", **schedule),
            ],
            **trainer_settings,
        )
        try:
            start_from, _ = checkpoints.newest_intact(place)
            trainer.fit(module, datamodule=data_module, ckpt_path=start_from, weights_only=True)
        except Interrupted:
            assert interrupt_at is not None
        return trainer, module, metrics

    return run
