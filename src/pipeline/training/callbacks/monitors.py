"""The learning rate as a metric."""

from typing import Any

import pytorch_lightning as pl

from pipeline.training.callbacks.step import StepCallback, calls_step_callbacks


class LearningRate(StepCallback):
    """Records `train/learning_rate` at every point of logging, for the first group of parameters.

    With a Learner right after the step, before a checkpoint can be taken: a run that is killed there and resumed would
    never record the point. With a user's own module, which has no such moment, after each batch.
    """

    def after_optimizer_step(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        if getattr(learner, "interval_is_over", False):
            self._record(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if not calls_step_callbacks(pl_module):
            self._record(trainer)

    def _record(self, trainer: pl.Trainer) -> None:
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        for logger in trainer.loggers:
            logger.log_metrics({"train/learning_rate": rate}, step=trainer.global_step)
