"""Stop training when the loss is NaN or infinite."""

import math

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from pipeline.constraints import PositiveInt
from pipeline.errors import TrainingFailed


class StopOnNaN(pl.Callback):
    """Raise TrainingFailed before a step with such a loss changes the weights.

    The error names the step and the parameter with the largest gradient. On a CPU every step is checked; on an
    accelerator, where checking means waiting for it, every `every_n_steps`.
    """

    def __init__(self, *, every_n_steps: PositiveInt = 10) -> None:
        self.every_n_steps = every_n_steps
        self.loss: Tensor | None = None  # summed over the micro-batches of the current step

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        self.loss = loss.detach() if self.loss is None else self.loss + loss.detach()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        loss, self.loss = self.loss, None
        if loss is None or not (loss.device.type == "cpu" or trainer.global_step % self.every_n_steps == 0):
            return
        if math.isfinite(loss.item()):
            return
        where, largest = largest_gradient(pl_module)
        raise TrainingFailed(
            f"the loss is {float(loss)} at step {trainer.global_step} (epoch {trainer.current_epoch}); the largest "
            f"gradient is {largest:.3g}, in {where}. Try a lower optimizer.learning_rate, "
            "trainer.gradient_clip_val=1.0 or trainer.precision=32-true"
        )


def largest_gradient(module: torch.nn.Module) -> tuple[str, float]:
    """Return the name of the parameter with the largest absolute gradient, and that gradient; NaN counts as largest."""
    sizes = {name: _size(parameter.grad) for name, parameter in module.named_parameters() if parameter.grad is not None}
    if not sizes:
        return "no parameter", 0.0
    name = max(sizes, key=lambda name: float("inf") if sizes[name] != sizes[name] else sizes[name])
    return name, sizes[name]


def _size(gradient: Tensor) -> float:
    return float(gradient.abs().max())
