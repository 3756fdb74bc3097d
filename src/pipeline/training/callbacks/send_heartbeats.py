"""A sign of life for whoever started this process."""

from typing import Any

import pytorch_lightning as pl

from pipeline.system.heartbeat import HeartbeatWriter, Phase
from pipeline.training.callbacks.hooks import StepCallback
from pipeline.training.distributed import collectives


class SendHeartbeats(StepCallback):
    """Tells where training is, and beats there: when a loss is computed, a step is done, a batch is judged."""

    def __init__(self, pulse: HeartbeatWriter) -> None:
        self.pulse = pulse

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size > 1:
            self.pulse.count_collectives(collectives.collectives_entered)

    def on_train_epoch_start(self, *_: Any) -> None:
        self.pulse.beat(Phase.EPOCH_START)

    def on_train_batch_start(self, *_: Any) -> None:
        self.pulse.beat(Phase.TRAINING)

    def on_before_backward(self, *_: Any) -> None:
        self.pulse.beat(Phase.TRAINING)

    def after_optimizer_step(self, *_: Any) -> None:
        self.pulse.beat(Phase.TRAINING)

    def on_validation_start(self, *_: Any) -> None:
        self.pulse.beat(Phase.VALIDATION)

    def on_validation_batch_end(self, *_: Any) -> None:
        self.pulse.beat(Phase.VALIDATION)

    def on_validation_epoch_end(self, *_: Any) -> None:
        self.pulse.beat(Phase.EPOCH_END)

    def on_train_epoch_end(self, *_: Any) -> None:
        self.pulse.beat(Phase.EPOCH_END)

    def on_save_checkpoint(self, *_: Any) -> None:
        self.pulse.beat(Phase.CHECKPOINT)

    def on_fit_end(self, *_: Any) -> None:
        self.pulse.beat(Phase.CLOSING)

    def on_test_start(self, *_: Any) -> None:
        self.pulse.beat(Phase.TEST)

    def on_test_batch_end(self, *_: Any) -> None:
        self.pulse.beat(Phase.TEST)

    def on_test_epoch_end(self, *_: Any) -> None:
        self.pulse.beat(Phase.CLOSING)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.pulse.beat(Phase.CLOSING)
