"""Backward and the optimiser's update, as Lightning's plugins would have them."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.spec import Batch
from pipeline.training.lightning_private import after_step, before_step


class Engine(Protocol):
    """`zero_grad`, `backward` for each micro-batch, `update`."""

    def zero_grad(self) -> None: ...

    def backward(self, loss: Tensor) -> None: ...

    def update(self) -> None: ...


def make_engine(learner: pl.LightningModule, optimizer: LightningOptimizer) -> Engine:
    """The fast way where it does the same as Lightning's own."""
    trainer = learner.trainer
    scales_loss = getattr(trainer.precision_plugin, "scaler", None) is not None
    is_plain = isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy)
    return DirectEngine(learner, optimizer) if is_plain and not scales_loss else LightningEngine(learner, optimizer)


def check_clipping(trainer: pl.Trainer, gradient_clip_val: float | None) -> None:
    """Raises ConfigError where gradients cannot be clipped because the optimiser alone unscales them."""
    scales_loss = getattr(trainer.precision_plugin, "scaler", None) is not None
    fused = any(group.get("fused") for each in trainer.optimizers for group in each.param_groups)
    if scales_loss and gradient_clip_val is not None and fused:
        raise ConfigError(
            "trainer.precision=16-mixed with trainer.gradient_clip_val needs an optimiser that leaves unscaling "
            "to the engine: add +optimizer.fused=false, or use trainer.precision=bf16-mixed"
        )


class LightningEngine:
    """Loss scaling, sharded weights: strategy and precision plugin do it all."""

    def __init__(self, learner: pl.LightningModule, optimizer: LightningOptimizer) -> None:
        self.learner = learner
        self.optimizer = optimizer

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def backward(self, loss: Tensor) -> None:
        with torch.autocast(self.learner.device.type, enabled=False):  # as torch asks for
            self.learner.manual_backward(loss)

    def update(self) -> None:
        self.optimizer.step()


class DirectEngine:
    """The same hooks in the same order, of those callbacks alone that have one.

    Lightning visits every callback three times a step, nearly always for an empty method: 0.25 ms with eight
    callbacks, a twentieth of a small network's whole step.
    """

    def __init__(self, learner: pl.LightningModule, optimizer: LightningOptimizer) -> None:
        self.optimizer = optimizer
        self.strategy = learner.trainer.strategy
        self.device_type = learner.device.type
        self.before_backward = _hooks(learner, "on_before_backward")
        self.after_backward = _hooks(learner, "on_after_backward")
        self.before_update = _hooks(learner, "on_before_optimizer_step")

    def zero_grad(self) -> None:
        self.optimizer.optimizer.zero_grad()

    def backward(self, loss: Tensor) -> None:
        self.strategy.pre_backward(loss)  # DDP makes its reducer ready
        for hook in self.before_backward:
            hook(loss)
        if torch.is_autocast_enabled(self.device_type):
            with torch.autocast(self.device_type, enabled=False):  # as torch asks for
                loss.backward()  # type: ignore[no-untyped-call]
        else:
            loss.backward()  # type: ignore[no-untyped-call]
        for hook in self.after_backward:
            hook()
        self.strategy.post_backward(loss)

    def update(self) -> None:
        before_step(self.optimizer)
        for hook in self.before_update:
            hook(self.optimizer.optimizer)
        self.optimizer.optimizer.step()
        after_step(self.optimizer)


def _hooks(learner: pl.LightningModule, name: str) -> list[Callable[..., Any]]:
    """The callbacks' hooks of this name, then the module's own, where they are more than the empty default."""
    callbacks: list[pl.Callback] = learner.trainer.callbacks  # type: ignore[attr-defined]  # set by its connector
    found: list[Callable[..., Any]] = [
        partial(getattr(callback, name), learner.trainer, learner)
        for callback in callbacks
        if not _is_default(callback, name, pl.Callback)
    ]
    return found if _is_default(learner, name, pl.LightningModule) else [*found, getattr(learner, name)]


def _is_default(holder: object, name: str, default: type) -> bool:
    # By the method that is bound, not by the class: LambdaCallback puts its hooks on the instance.
    return getattr(getattr(holder, name), "__func__", None) is getattr(default, name)


class Chunk(Protocol):
    """Consecutive optimiser steps, up to a point of logging; each is a list of its micro-batches."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[Batch]]: ...


def as_chunk(batch: Any, batch_idx: int) -> Chunk:
    """Our loader's chunk as it is; a batch (inputs, targets) of a user's own loader as a single step."""
    return [[as_batch(batch, batch_idx)]] if isinstance(batch, tuple | list | Batch) else batch


def as_batch(batch: Any, batch_idx: int) -> Batch:
    if isinstance(batch, Batch):
        return batch
    inputs, targets = batch
    # A user's loader does not say which rows it took; the batch's number keeps their order.
    return Batch(inputs, targets, torch.full((len(targets),), batch_idx, device=targets.device))
