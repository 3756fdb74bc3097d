"""Backward pass and optimiser step, as Lightning's plugins would do them."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.training.lightning_private import after_step, before_step


class Engine(Protocol):
    """Take an optimiser step: `zero_grad`, then `backward` for each micro-batch, then `step`."""

    def zero_grad(self) -> None: ...

    def backward(self, loss: Tensor) -> None: ...

    def step(self) -> None: ...


def make_engine(learner: pl.LightningModule, optimizer: LightningOptimizer) -> Engine:
    """Return the fast engine where it does the same as Lightning's own."""
    strategy = learner.trainer.strategy
    is_plain = isinstance(strategy, SingleDeviceStrategy | DDPStrategy) and not _scales_loss(learner.trainer)
    return DirectEngine(learner, optimizer) if is_plain else LightningEngine(learner, optimizer)


def check_clipping(trainer: pl.Trainer, gradient_clip_val: float | None) -> None:
    """Raise ConfigError where gradients cannot be clipped, because the optimiser alone unscales them."""
    fused = any(group.get("fused") for optimizer in trainer.optimizers for group in optimizer.param_groups)
    if _scales_loss(trainer) and gradient_clip_val is not None and fused:
        raise ConfigError(
            "trainer.precision=16-mixed with trainer.gradient_clip_val needs an optimiser that leaves unscaling "
            "to the engine: add +optimizer.fused=false, or use trainer.precision=bf16-mixed"
        )


def _scales_loss(trainer: pl.Trainer) -> bool:
    return getattr(trainer.precision_plugin, "scaler", None) is not None


class LightningEngine:
    """Leave everything to Lightning's strategy and precision plugin: loss scaling, sharded weights."""

    def __init__(self, learner: pl.LightningModule, optimizer: LightningOptimizer) -> None:
        self.learner = learner
        self.optimizer = optimizer

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def backward(self, loss: Tensor) -> None:
        with torch.autocast(self.learner.device.type, enabled=False):  # as torch recommends
            self.learner.manual_backward(loss)

    def step(self) -> None:
        self.optimizer.step()


class DirectEngine:
    """Call the same hooks in the same order, but only where a callback has more than the empty default.

    Lightning visits every callback three times a step, nearly always for an empty method: 0.25 ms with eight
    callbacks, a twentieth of a small network's whole step.
    """

    def __init__(self, learner: pl.LightningModule, optimizer: LightningOptimizer) -> None:
        self.optimizer = optimizer
        self.strategy = learner.trainer.strategy
        self.device_type = learner.device.type
        self.before_backward = _hooks(learner, "on_before_backward")
        self.after_backward = _hooks(learner, "on_after_backward")
        self.before_step = _hooks(learner, "on_before_optimizer_step")

    def zero_grad(self) -> None:
        self.optimizer.optimizer.zero_grad()

    def backward(self, loss: Tensor) -> None:
        self.strategy.pre_backward(loss)  # DDP prepares its reducer
        for hook in self.before_backward:
            hook(loss)
        if torch.is_autocast_enabled(self.device_type):
            with torch.autocast(self.device_type, enabled=False):  # as torch recommends
                loss.backward()  # type: ignore[no-untyped-call]
        else:
            loss.backward()  # type: ignore[no-untyped-call]
        for hook in self.after_backward:
            hook()
        self.strategy.post_backward(loss)

    def step(self) -> None:
        before_step(self.optimizer)
        for hook in self.before_step:
            hook(self.optimizer.optimizer)
        self.optimizer.optimizer.step()
        after_step(self.optimizer)


def _hooks(learner: pl.LightningModule, name: str) -> list[Callable[..., Any]]:
    """Return the callbacks' hooks of this name, then the module's own, where they are more than the empty default."""
    callbacks: list[pl.Callback] = learner.trainer.callbacks  # type: ignore[attr-defined]  # set by its connector
    hooks: list[Callable[..., Any]] = [
        partial(getattr(callback, name), learner.trainer, learner)
        for callback in callbacks
        if not _is_default(callback, name, pl.Callback)
    ]
    return hooks if _is_default(learner, name, pl.LightningModule) else [*hooks, getattr(learner, name)]


def _is_default(owner: object, name: str, default: type) -> bool:
    # By the bound method, not by the class: LambdaCallback puts its hooks on the instance.
    return getattr(getattr(owner, name), "__func__", None) is getattr(default, name)
