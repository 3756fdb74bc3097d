"""The mean of the weights along the end of training."""

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
from pipeline.training.callbacks.averaging import Averaging, state
from pipeline.training.callbacks.step import calls_step_callbacks
from pipeline.training.chunk import as_batch

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
Sharing = Callable[[slice], AbstractContextManager[None]]


class SWA(Averaging):
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
                take_anew(pl_module, norms, (each.to(pl_module.device) for each in inputs), sharing_of(pl_module))
            for name, value in state(pl_module).items():
                self.average[name].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


def take_anew(network: nn.Module, norms: list[BatchNorm], batches: Iterator[Tensor], sharing: Sharing) -> None:
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


def sharing_of(module: pl.LightningModule) -> Sharing:
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
