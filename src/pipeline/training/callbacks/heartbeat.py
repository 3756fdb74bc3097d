"""A sign of life for whoever started this process."""

from typing import Any

import pytorch_lightning as pl

from pipeline.pulse import Pulse
from pipeline.training.callbacks.step import StepCallback


class Heartbeat(StepCallback):
    """Beats when a loss is computed and when a step is done: of processes that wait for each other in a collective
    operation, the one that all wait for has the fewest."""

    def __init__(self, rank: int) -> None:
        self.pulse = Pulse(rank)

    def on_before_backward(self, *_: Any) -> None:
        self.pulse.beat()

    def after_optimizer_step(self, *_: Any) -> None:
        self.pulse.beat()

    def on_validation_batch_end(self, *_: Any) -> None:
        self.pulse.beat()

    def on_test_batch_end(self, *_: Any) -> None:
        self.pulse.beat()

    def on_validation_epoch_end(self, *_: Any) -> None:
        self.pulse.rest()

    def on_test_epoch_end(self, *_: Any) -> None:
        self.pulse.rest()

    def on_train_epoch_end(self, *_: Any) -> None:
        self.pulse.rest()

    def on_save_checkpoint(self, *_: Any) -> None:
        self.pulse.rest()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.pulse.rest()
