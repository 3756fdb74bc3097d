"""The learning rate as a metric."""

from typing import Any

import pytorch_lightning as pl


class LearningRate(pl.Callback):
    """Records `train/learning_rate` at every point of logging, for the first group of parameters."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        for logger in trainer.loggers:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            logger.log_metrics({"train/learning_rate": float(rate)}, step=trainer.global_step)
