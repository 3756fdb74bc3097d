"""What judges and keeps an average of the weights instead of the last ones."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from math import ceil
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from pipeline.constraints import PositiveInt, ProbabilityBelowOne
from pipeline.spec import Batch
from pipeline.training import checkpoints
from pipeline.training.callbacks.hooks import StepCallback, calls_step_callbacks
from pipeline.training.distributed.sharding import distribute_like, full_tensor, local_tensor
from pipeline.training.engine import as_batch
from pipeline.training.torch_private import lerp_all


class WeightAveraging(StepCallback):
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
        self.average = {name: value.clone() for name, value in live_weights(learner).items()}
        self.pair(learner)

    def pair(self, learner: pl.LightningModule) -> None:
        # Once: a state dict of the module takes longer than the whole average, and these stay the live weights.
        weights = live_weights(learner)
        self.average = {name: distribute_like(value, weights[name]) for name, value in self.average.items()}
        pairs = [(local_tensor(self.average[name]), local_tensor(value)) for name, value in weights.items()]
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
            self.training_weights = {name: value.clone() for name, value in live_weights(pl_module).items()}
            copy_weights(pl_module, self.average)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.training_weights is not None:
            copy_weights(pl_module, self.training_weights)
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
    """What a checkpoint taken now would be judged by, whole and on the CPU; all processes must ask for it."""
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by its connector
    for callback in callbacks:
        if isinstance(callback, WeightAveraging):
            callback.on_save_checkpoint(trainer, module, checkpoint)
    judged = _tensors(checkpoints.evaluation_weights(checkpoint))
    return {name: full_tensor(value).detach().to("cpu", copy=True) for name, value in judged.items()}


def live_weights(learner: pl.LightningModule) -> dict[str, Tensor]:
    """The live weights and buffers (not copies), by their names in the checkpoint."""
    return _tensors(learner.state_dict())


def copy_weights(learner: pl.LightningModule, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in live_weights(learner).items():
            value.copy_(weights[name])


def _tensors(values: dict[str, Any]) -> dict[str, Tensor]:
    # A module may have extra state.
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


class EMA(WeightAveraging):
    """Judge and keep the average of the weights instead of the last ones (Polyak & Juditsky 1992).

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
            self.begin(pl_module)

    def after_optimizer_step(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        step = trainer.global_step
        self.move(1 - min(self.decay, (1 + step) / (10 + step)))


BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
Sharing = Callable[[slice], AbstractContextManager[None]]


class SWA(WeightAveraging):
    """Stochastic weight averaging (Izmailov et al. 2018): judge and keep the mean of the weights at the end of each
    epoch from `start_share` (0 to 1) of training on, or every `every_n_steps` from there.

    Until then the weights themselves are judged. The mean is of weights that still move: a learning rate that falls
    to nothing, as in one_cycle, leaves little to average.

    Batch norm's running statistics are those of no single weights, so they are taken anew before each judgement, from
    `batch_norm_steps` training batches as they are stored, without augmentation and with dropout off.
    """

    def __init__(
        self, *, start_share: ProbabilityBelowOne, every_n_steps: PositiveInt | None, batch_norm_steps: PositiveInt
    ) -> None:
        super().__init__()
        self.start_share = start_share
        self.every_n_steps = every_n_steps
        self.batch_norm_steps = batch_norm_steps
        self.count = 0  # of the weights in the average

    def after_optimizer_step(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        every = _steps_of_an_epoch(trainer, learner) if self.every_n_steps is None else self.every_n_steps
        if trainer.global_step % every != 0 or trainer.global_step < self.start_share * _total_steps(trainer, learner):
            return
        if self.average:
            self.move(1 / (self.count + 1))
        else:
            self.begin(learner)
        self.count += 1

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_start(trainer, pl_module)
        if self.training_weights is None:
            return
        norms = [each for each in pl_module.modules() if isinstance(each, BatchNorm) and each.track_running_stats]
        if norms:
            inputs = islice(_training_inputs(trainer), self.batch_norm_steps)
            with torch.no_grad(), trainer.precision_plugin.forward_context():
                recompute_batch_norm(
                    pl_module, norms, (each.to(pl_module.device) for each in inputs), global_batch_of(pl_module)
                )
            for name, value in live_weights(pl_module).items():
                self.average[name].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


def recompute_batch_norm(
    network: nn.Module, norms: list[BatchNorm], batches: Iterator[Tensor], sharing: Sharing
) -> None:
    """The running mean and variance of `norms`, parts of `network`, as the mean over these batches of inputs."""
    was = [(norm, norm.momentum, norm.training) for norm in norms]
    was_training = network.training
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches since then
        norm.train()
    for inputs in batches:
        with sharing(slice(0, len(inputs))):
            network(inputs)
    network.train(was_training)
    for norm, momentum, training in was:
        norm.momentum = momentum
        norm.train(training)


def global_batch_of(module: pl.LightningModule) -> Sharing:
    """A module of the user's own has batch norm's statistics of each process's samples."""
    return module.sharing if calls_step_callbacks(module) else lambda rows: nullcontext()  # type: ignore[return-value]


def _training_inputs(trainer: pl.Trainer) -> Iterator[Tensor]:
    """Of the process's own part of this epoch, from its first batch, whatever of it has been trained on."""
    loader: Any = trainer.train_dataloader
    for number, batch in enumerate(loader.batches() if hasattr(loader, "batches") else loader):
        inputs: Tensor = (batch if isinstance(batch, Batch) else as_batch(batch, number)).inputs
        yield inputs


def _total_steps(trainer: pl.Trainer, learner: pl.LightningModule) -> float:
    known: float | None = getattr(learner, "total_steps", None)
    return trainer.estimated_stepping_batches if known is None else known  # of a module of the user's own


def _steps_of_an_epoch(trainer: pl.Trainer, learner: pl.LightningModule) -> int:
    known: int | None = getattr(learner, "steps_per_epoch", None)
    return ceil(trainer.num_training_batches / trainer.accumulate_grad_batches) if known is None else known
