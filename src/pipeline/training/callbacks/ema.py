"""An exponential moving average of the weights."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.training.callbacks.step import StepCallback
from pipeline.training.sharding import divided_as, own_part, whole


class EMA(StepCallback):
    """Judge and keep the average of the weights instead of the last ones (Polyak & Juditsky 1992).

    average <- decay * average + (1 - decay) * weights after every step, with a smaller decay in the
    first steps, (1 + step) / (10 + step), so that the initial weights are forgotten. The running statistics of
    batch norm are averaged like weights. Checkpoints hold both; `evaluation_state_dict` has the average.
    """

    def __init__(self, *, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"callbacks.ema.decay={decay}: use a share below 1, such as 0.995")
        self.decay = decay
        self.average: dict[str, Tensor] = {}
        self.averaged: list[tuple[Tensor, Tensor]] = []  # average, weights
        self.copied: list[tuple[Tensor, Tensor]] = []  # what no average can be taken of
        self.training_weights: dict[str, Tensor] | None = None  # set aside while the average is judged

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        weights = _state(pl_module)
        if not self.average:
            self.average = {name: value.clone() for name, value in weights.items()}
        self.average = {name: divided_as(value, weights[name]) for name, value in self.average.items()}
        # Once: a state dict of the module takes longer than the whole average, and these stay the live weights.
        pairs = [(own_part(self.average[name]), own_part(value)) for name, value in weights.items()]
        self.averaged = [pair for pair in pairs if pair[1].is_floating_point()]
        self.copied = [pair for pair in pairs if not pair[1].is_floating_point()]

    @torch.no_grad()
    def after_optimizer_step(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        step = trainer.global_step
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, weights = zip(*self.averaged, strict=True)
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for count, value in self.copied:  # batch norm's count of batches
            count.copy_(value)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self.training_weights = {name: value.clone() for name, value in _state(pl_module).items()}
            _load(pl_module, self.average)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.training_weights is not None:
            _load(pl_module, self.training_weights)
            self.training_weights = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["evaluation_state_dict"] = checkpoint["state_dict"] | {
            name: whole(value) for name, value in self.average.items()
        }
        if self.training_weights is not None:  # saved in the middle of a validation
            checkpoint["state_dict"] |= {name: whole(value) for name, value in self.training_weights.items()}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.average = _tensors(checkpoint["evaluation_state_dict"])


def _state(learner: pl.LightningModule) -> dict[str, Tensor]:
    """The live weights and buffers (not copies), by their names in the checkpoint."""
    return _tensors(learner.state_dict())


def _tensors(state: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}  # a module may have extra state


def _load(learner: pl.LightningModule, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in _state(learner).items():
            value.copy_(weights[name])
