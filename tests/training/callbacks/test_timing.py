"""Where the time of a training goes: each part slowed down in its turn."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pipeline.data.loader import TrainLoader
from pipeline.training.callbacks.hooks import StepCallback
from pipeline.training.callbacks.monitors import (
    CHECKPOINTS,
    DATA,
    DATA_SHARE,
    STEPS,
    VALIDATION,
    EpochTiming,
    TimedCheckpointIO,
)

PARTS = (DATA, STEPS, VALIDATION, CHECKPOINTS)
DELAY_SECONDS = 0.03
STEPS_AN_EPOCH = 20


class Slow(StepCallback):
    """Sleeps in one of the parts."""

    def __init__(self, part: str) -> None:
        self.part = part

    def after_optimizer_step(self, *_: Any) -> None:
        if self.part == STEPS:
            time.sleep(DELAY_SECONDS)

    def on_validation_batch_end(self, *_: Any) -> None:
        if self.part == VALIDATION:
            time.sleep(10 * DELAY_SECONDS)


def slow_down(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, name = {DATA: (TrainLoader, "_batch"), CHECKPOINTS: (TimedCheckpointIO.__base__, "save_checkpoint")}[part]
    original = getattr(target, name)

    def slower(*args: Any, **kwargs: Any) -> Any:
        time.sleep(DELAY_SECONDS)
        return original(*args, **kwargs)

    monkeypatch.setattr(target, name, slower)


def spent(metrics: Any, part: str) -> float:
    return sum(value for _, value in metrics.named(part))


@pytest.mark.parametrize("part", PARTS)
def test_slow_parts_of_training_are_timed_where_they_are_and_counted_once(
    fit: Callable[..., Any], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if part in (DATA, CHECKPOINTS):
        slow_down(part, monkeypatch)
    begun = time.perf_counter()
    # A checkpoint in the middle of the steps must not count as one of them.
    _, _, metrics = fit(epochs=2, callbacks=lambda: [EpochTiming(), Slow(part)], checkpoint={"every_n_steps": 2})
    elapsed = time.perf_counter() - begun
    slept = {DATA: 2 * STEPS_AN_EPOCH, STEPS: 2 * STEPS_AN_EPOCH, VALIDATION: 2 * 2 * 10, CHECKPOINTS: 2 * 10 + 2}
    assert spent(metrics, part) >= slept[part] * DELAY_SECONDS
    assert sum(spent(metrics, each) for each in PARTS) < elapsed
    shares = [value for _, value in metrics.named(DATA_SHARE)]
    data, steps = ([value for _, value in metrics.named(each)] for each in (DATA, STEPS))
    assert shares == [100 * waiting / (waiting + busy) for waiting, busy in zip(data, steps, strict=True)]


def test_each_epoch_has_one_record_of_times_at_its_last_step(fit: Callable[..., Any]) -> None:
    begun = time.perf_counter()
    _, _, metrics = fit(epochs=3, callbacks=lambda: [EpochTiming()])
    elapsed = time.perf_counter() - begun
    for part in PARTS:
        assert [step for step, _ in metrics.named(part)] == [20, 40, 60]
        assert all(value > 0 for _, value in metrics.named(part))
    assert sum(spent(metrics, part) for part in PARTS) < elapsed


def test_times_of_an_interrupted_epoch_are_recorded_and_go_on_after_it(fit: Callable[..., Any]) -> None:
    _, _, before = fit(epochs=2, interrupt_at=27, callbacks=lambda: [EpochTiming()])
    _, _, after = fit(epochs=2, callbacks=lambda: [EpochTiming()])
    assert [step for step, _ in before.named(STEPS)] == [20, 27]
    assert [step for step, _ in after.named(STEPS)] == [40]


class SlowRows(Dataset[tuple[Tensor, Tensor]]):
    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        time.sleep(DELAY_SECONDS / 10)
        return torch.randn(3), torch.randn(1)


class Line(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = (self.layer(batch[0]) - batch[1]).square().mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_users_own_loader_is_timed_too(tmp_path: Any) -> None:
    timing = EpochTiming()
    recorded: list[dict[str, float]] = []

    class Remember(pl.loggers.CSVLogger):
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            recorded.append(metrics)

        def save(self) -> None: ...

    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[timing],
        logger=Remember(tmp_path),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Line(), DataLoader(SlowRows(), batch_size=10))
    (values,) = (each for each in recorded if DATA in each)
    assert values[DATA] >= 40 * DELAY_SECONDS / 10 > values[STEPS]
