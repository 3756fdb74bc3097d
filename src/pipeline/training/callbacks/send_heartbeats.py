"""Report the progress of training to the process that started this one."""

from typing import Any

import pytorch_lightning as pl

from pipeline.system.heartbeat import HeartbeatWriter, Phase
from pipeline.training.callbacks.hooks import StepCallback
from pipeline.training.distributed import collectives


class SendHeartbeats(StepCallback):
    """Write a heartbeat with the phase of training after each loss, optimiser step and evaluated batch."""

    def __init__(self, heartbeat: HeartbeatWriter) -> None:
        self.heartbeat = heartbeat

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size > 1:
            self.heartbeat.count_collectives(collectives.collectives_entered)

    def on_train_epoch_start(self, *_: Any) -> None:
        self.heartbeat.beat(Phase.EPOCH_START)

    def on_train_batch_start(self, *_: Any) -> None:
        self.heartbeat.beat(Phase.TRAINING)

    def on_before_backward(self, *_: Any) -> None:
        self.heartbeat.beat(Phase.TRAINING)

    def after_optimizer_step(self, *_: Any) -> None:
        self.heartbeat.beat(Phase.TRAINING)

    def on_validation_start(self, *_: Any) -> None:
        self.heartbeat.beat(Phase.VALIDATION)

    def on_validation_batch_end(self, *_: Any) -> None:
        self.heartbeat.beat(Phase.VALIDATION)

    def on_validation_epoch_end(self, *_: Any) -> None:
        self.heartbeat.beat(Phase.EPOCH_END)

    def on_train_epoch_end(self, *_: Any) -> None:
        self.heartbeat.beat(Phase.EPOCH_END)

    def on_save_checkpoint(self, *_: Any) -> None:
        self.heartbeat.beat(Phase.CHECKPOINT)

    def on_fit_end(self, *_: Any) -> None:
        self.heartbeat.beat(Phase.CLOSING)

    def on_test_start(self, *_: Any) -> None:
        self.heartbeat.beat(Phase.TEST)

    def on_test_batch_end(self, *_: Any) -> None:
        self.heartbeat.beat(Phase.TEST)

    def on_test_epoch_end(self, *_: Any) -> None:
        self.heartbeat.beat(Phase.CLOSING)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.heartbeat.beat(Phase.CLOSING)
