"""Where the time of a training goes."""

from time import perf_counter
from typing import Any

import pytorch_lightning as pl

from pipeline.training.checkpoints import VerifiedCheckpointIO

DATA = "system/seconds_data"
STEPS = "system/seconds_steps"
VALIDATION = "system/seconds_validation"
CHECKPOINTS = "system/seconds_checkpoints"
DATA_SHARE = "system/data_wait_percent"


class TimedCheckpointIO(VerifiedCheckpointIO):
    """Counts what it takes to write checkpoints."""

    seconds_saving = 0.0

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        started_at = perf_counter()
        super().save_checkpoint(*args, **kwargs)
        self.seconds_saving += perf_counter() - started_at


class Timing(pl.Callback):
    """Records for each epoch the seconds that went into data, optimiser steps, validation and checkpoints.

    Data's share is that of the training alone: of data and steps together.

    As this process sees them, without ever waiting for an accelerator: drawing a batch there is only the order to do
    so, and the steps hold what is waited for at the next point of logging. Lightning's hooks tell how long a user's
    own loader takes; ours draws within the steps, and counts for itself (`seconds_drawing`).
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys((DATA, STEPS, VALIDATION, CHECKPOINTS), 0.0)
        self.last = (0.0, 0.0, 0.0)  # the clock, the loader's seconds, the checkpoints' seconds

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.last = _clocks(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._record(trainer)  # of the epoch before, with the checkpoint at its very end

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self._lap(trainer, DATA)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._lap(trainer, STEPS)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._lap(trainer, None)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._lap(trainer, VALIDATION)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._record(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self.last[0] > 0:  # training had begun
            self._record(trainer)

    def _lap(self, trainer: pl.Trainer, name: str | None) -> None:
        """The seconds since the last lap go to `name`, but for those that the loader or a checkpoint took of them."""
        if self.last[0] == 0:  # Lightning validates some batches before training begins
            return
        clocks = _clocks(trainer)
        elapsed, drawing, saving = (now - before for now, before in zip(clocks, self.last, strict=True))
        self.last = clocks
        self.seconds[DATA] += drawing
        self.seconds[CHECKPOINTS] += saving
        if name is not None:
            self.seconds[name] += max(elapsed - drawing - saving, 0.0)

    def _record(self, trainer: pl.Trainer) -> None:
        self._lap(trainer, None)
        values, self.seconds = self.seconds, dict.fromkeys(self.seconds, 0.0)
        if any(values.values()) and trainer.state.fn == "fit":
            training = values[DATA] + values[STEPS]
            if training > 0:
                values[DATA_SHARE] = 100 * values[DATA] / training
            for logger in trainer.loggers:
                logger.log_metrics(values, step=trainer.global_step)


def _clocks(trainer: pl.Trainer) -> tuple[float, float, float]:
    drawing = getattr(trainer.train_dataloader, "seconds_drawing", 0.0)
    saving = getattr(trainer.strategy.checkpoint_io, "seconds_saving", 0.0)
    return perf_counter(), drawing, saving
