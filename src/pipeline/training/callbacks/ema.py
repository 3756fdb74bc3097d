"""An exponential moving average of the weights."""

import pytorch_lightning as pl

from pipeline.constraints import ProbabilityBelowOne
from pipeline.training.callbacks.averaging import Averaging


class EMA(Averaging):
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
