"""The length of the gradient as a metric."""

import pytorch_lightning as pl
from torch import nn
from torch.optim import Optimizer

from pipeline.training.distributed.sharding import whole


class GradientNorm(pl.Callback):
    """Records `train/gradient_norm` at every point of logging: the Euclidean norm over all weights, before clipping.

    Of one step, not of an interval: at each step it would have to be waited for.
    """

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        step = trainer.global_step + 1  # once it is done
        if step % trainer.log_every_n_steps != 0:  # type: ignore[attr-defined]  # set by its connector
            return
        gradients = [each.grad for each in pl_module.parameters() if each.grad is not None]
        norm = float(whole(nn.utils.get_total_norm(gradients))) if gradients else 0.0
        for logger in trainer.loggers:
            logger.log_metrics({"train/gradient_norm": norm}, step=step)
