"""Evaluate and keep an average of the weights instead of the last ones."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from math import ceil
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from pipeline.constraints import PositiveInt, ProbabilityBelowOne
from pipeline.training import checkpoints
from pipeline.training.callbacks.hooks import StepCallback, calls_step_callbacks
from pipeline.training.distributed.sharding import distribute_like, full_tensor, local_tensor
from pipeline.training.learner import as_batch
from pipeline.training.torch_private import lerp_all


class WeightAveraging(StepCallback):
    """`average` holds weights and buffers by their names in a checkpoint; it is empty until there is one.

    Checkpoints hold both; `evaluation_state_dict` has the average. A run can have one of these callbacks.
    """

    def __init__(self) -> None:
        self.average: dict[str, Tensor] = {}
        self.averaged: list[tuple[Tensor, Tensor]] = []  # average, weights
        self.copied: list[tuple[Tensor, Tensor]] = []  # integers, which are copied and not averaged
        self.training_weights: dict[str, Tensor] | None = None  # set aside while the average is evaluated

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.average:
            self._pair_with_weights(pl_module)

    def start_average(self, learner: pl.LightningModule) -> None:
        """Set the average to the current weights."""
        self.average = {name: value.clone() for name, value in live_weights(learner).items()}
        self._pair_with_weights(learner)

    def _pair_with_weights(self, learner: pl.LightningModule) -> None:
        # Once: a state dict of the module takes longer than the whole average, and these stay the live weights.
        weights = live_weights(learner)
        self.average = {name: distribute_like(value, weights[name]) for name, value in self.average.items()}
        pairs = [(local_tensor(self.average[name]), local_tensor(value)) for name, value in weights.items()]
        self.averaged = [pair for pair in pairs if pair[1].is_floating_point()]
        self.copied = [pair for pair in pairs if not pair[1].is_floating_point()]

    @torch.no_grad()
    def update_average(self, share: float) -> None:
        """average <- (1 - share) * average + share * weights."""
        averages, weights = zip(*self.averaged, strict=True)
        lerp_all(averages, weights, share)
        for count, value in self.copied:  # batch norm's count of batches
            count.copy_(value)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and self.average:
            self.training_weights = {name: value.clone() for name, value in live_weights(pl_module).items()}
            copy_weights(self.average, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.training_weights is not None:
            copy_weights(self.training_weights, pl_module)
            self.training_weights = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self.average:
            checkpoint["evaluation_state_dict"] = checkpoint["state_dict"] | {
                name: full_tensor(value) for name, value in self.average.items()
            }
        if self.training_weights is not None:  # saved in the middle of a validation
            checkpoint["state_dict"] |= {name: full_tensor(value) for name, value in self.training_weights.items()}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.average = _tensors(checkpoint.get("evaluation_state_dict", {}))


def evaluation_weights_now(trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Tensor]:
    """Return the weights that a checkpoint saved now would be evaluated with, whole and on the CPU.

    All processes must call it.
    """
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by its connector
    for callback in callbacks:
        if isinstance(callback, WeightAveraging):
            callback.on_save_checkpoint(trainer, module, checkpoint)
    weights = _tensors(checkpoints.evaluation_weights(checkpoint))
    return {name: full_tensor(value).detach().to("cpu", copy=True) for name, value in weights.items()}


def live_weights(learner: pl.LightningModule) -> dict[str, Tensor]:
    """Return the weights and buffers themselves (not copies), by their names in the checkpoint."""
    return _tensors(learner.state_dict())


def copy_weights(weights: dict[str, Tensor], learner: pl.LightningModule) -> None:
    """Copy weights and buffers into the learner's."""
    with torch.no_grad():
        for name, value in live_weights(learner).items():
            value.copy_(weights[name])


def _tensors(values: dict[str, Any]) -> dict[str, Tensor]:
    # A module may have extra state.
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


class EMA(WeightAveraging):
    """Evaluate and keep an exponential moving average of the weights (Polyak & Juditsky 1992).

    average <- decay * average + (1 - decay) * weights after every step, with a smaller decay in the
    first steps, (1 + step) / (10 + step), so that the initial weights are forgotten. The running statistics of
    batch norm are averaged like weights.
    """

    def __init__(self, *, decay: ProbabilityBelowOne) -> None:
        super().__init__()
        self.decay = decay

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if not self.average:
            self.start_average(pl_module)

    def after_optimizer_step(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        step = trainer.global_step
        self.update_average(1 - min(self.decay, (1 + step) / (10 + step)))


BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
GlobalBatch = Callable[[slice], AbstractContextManager[None]]


class SWA(WeightAveraging):
    """Stochastic weight averaging (Izmailov et al. 2018): evaluate and keep the mean of the weights at the end of each
    epoch, or every `every_n_steps`, from `start_share` (0 to 1) of training on.

    Until then the weights themselves are evaluated. The mean is useful for weights that still move: a learning rate
    that falls to nothing, as in one_cycle, leaves little to average.

    Batch norm's running statistics do not fit the averaged weights, so they are recomputed before each validation,
    from `batch_norm_steps` training batches without augmentation, with dropout off.
    """

    def __init__(
        self, *, start_share: ProbabilityBelowOne, every_n_steps: PositiveInt | None, batch_norm_steps: PositiveInt
    ) -> None:
        super().__init__()
        self.start_share = start_share
        self.every_n_steps = every_n_steps
        self.batch_norm_steps = batch_norm_steps
        self.count = 0  # weights in the average

    def after_optimizer_step(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        every = _steps_per_epoch(trainer, learner) if self.every_n_steps is None else self.every_n_steps
        if trainer.global_step % every != 0 or trainer.global_step < self.start_share * _total_steps(trainer, learner):
            return
        if self.average:
            self.update_average(1 / (self.count + 1))
        else:
            self.start_average(learner)
        self.count += 1

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_start(trainer, pl_module)
        if self.training_weights is None:
            return
        norms = [
            module for module in pl_module.modules() if isinstance(module, BatchNorm) and module.track_running_stats
        ]
        if norms:
            batches = islice(_training_inputs(trainer), self.batch_norm_steps)
            inputs = (batch.to(pl_module.device) for batch in batches)
            with torch.no_grad(), trainer.precision_plugin.forward_context():
                recompute_batch_norm(pl_module, norms, inputs, _global_batch_of(pl_module))
            for name, value in live_weights(pl_module).items():
                self.average[name].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


def recompute_batch_norm(
    network: nn.Module, norms: list[BatchNorm], batches: Iterator[Tensor], global_batch: GlobalBatch
) -> None:
    """Set the running statistics of `norms`, which are modules of `network`, to the mean over these inputs."""
    settings = [(norm, norm.momentum, norm.training) for norm in norms]
    was_training = network.training
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches since then
        norm.train()
    for inputs in batches:
        with global_batch(slice(0, len(inputs))):
            network(inputs)
    network.train(was_training)
    for norm, momentum, training in settings:
        norm.momentum = momentum
        norm.train(training)


def _global_batch_of(module: pl.LightningModule) -> GlobalBatch:
    if calls_step_callbacks(module):
        return module.global_batch  # type: ignore[return-value]  # of a Learner
    return lambda rows: nullcontext()  # a user's own module takes batch norm's statistics in each process


def _training_inputs(trainer: pl.Trainer) -> Iterator[Tensor]:
    """Yield this process's inputs of this epoch from the first batch on, also those that were trained on already."""
    loader: Any = trainer.train_dataloader
    for number, batch in enumerate(loader.batches() if hasattr(loader, "batches") else loader):
        yield as_batch(batch, number).inputs


def _total_steps(trainer: pl.Trainer, learner: pl.LightningModule) -> float:
    known: float | None = getattr(learner, "total_steps", None)
    return trainer.estimated_stepping_batches if known is None else known  # for a user's own module


def _steps_per_epoch(trainer: pl.Trainer, learner: pl.LightningModule) -> int:
    known: int | None = getattr(learner, "steps_per_epoch", None)
    return ceil(trainer.num_training_batches / trainer.accumulate_grad_batches) if known is None else known
