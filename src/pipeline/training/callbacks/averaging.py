"""What judges and keeps an average of the weights instead of the last ones."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from pipeline.training import checkpoints
from pipeline.training.callbacks.step import StepCallback
from pipeline.training.distributed.sharding import divided_as, own_part, whole
from pipeline.training.torch_private import lerp_all


class Averaging(StepCallback):
    """`average` holds weights and buffers by their names in a checkpoint; it is empty until there is one.

    Checkpoints hold both; `evaluation_state_dict` has the average. Of these callbacks a run can have one.
    """

    def __init__(self) -> None:
        self.average: dict[str, Tensor] = {}
        self.averaged: list[tuple[Tensor, Tensor]] = []  # average, weights
        self.copied: list[tuple[Tensor, Tensor]] = []  # what no average can be taken of
        self.training_weights: dict[str, Tensor] | None = None  # set aside while the average is judged

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.average:
            self.pair(pl_module)

    def begin(self, learner: pl.LightningModule) -> None:
        """With the weights as they are."""
        self.average = {name: value.clone() for name, value in state(learner).items()}
        self.pair(learner)

    def pair(self, learner: pl.LightningModule) -> None:
        # Once: a state dict of the module takes longer than the whole average, and these stay the live weights.
        weights = state(learner)
        self.average = {name: divided_as(value, weights[name]) for name, value in self.average.items()}
        pairs = [(own_part(self.average[name]), own_part(value)) for name, value in weights.items()]
        self.averaged = [pair for pair in pairs if pair[1].is_floating_point()]
        self.copied = [pair for pair in pairs if not pair[1].is_floating_point()]

    @torch.no_grad()
    def move(self, share: float) -> None:
        """average <- (1 - share) * average + share * weights"""
        averages, weights = zip(*self.averaged, strict=True)
        lerp_all(averages, weights, share)
        for count, value in self.copied:  # batch norm's count of batches
            count.copy_(value)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and self.average:
            self.training_weights = {name: value.clone() for name, value in state(pl_module).items()}
            load(pl_module, self.average)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.training_weights is not None:
            load(pl_module, self.training_weights)
            self.training_weights = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self.average:
            checkpoint["evaluation_state_dict"] = checkpoint["state_dict"] | {
                name: whole(value) for name, value in self.average.items()
            }
        if self.training_weights is not None:  # saved in the middle of a validation
            checkpoint["state_dict"] |= {name: whole(value) for name, value in self.training_weights.items()}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.average = _tensors(checkpoint.get("evaluation_state_dict", {}))


def weights_to_judge(trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Tensor]:
    """What a checkpoint taken now would be judged by, whole and on the CPU; all processes must ask for it."""
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by its connector
    for callback in callbacks:
        if isinstance(callback, Averaging):
            callback.on_save_checkpoint(trainer, module, checkpoint)
    judged = _tensors(checkpoints.evaluation_weights(checkpoint))
    return {name: whole(value).detach().to("cpu", copy=True) for name, value in judged.items()}


def state(learner: pl.LightningModule) -> dict[str, Tensor]:
    """The live weights and buffers (not copies), by their names in the checkpoint."""
    return _tensors(learner.state_dict())


def load(learner: pl.LightningModule, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in state(learner).items():
            value.copy_(weights[name])


def _tensors(values: dict[str, Any]) -> dict[str, Tensor]:
    # A module may have extra state.
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}
