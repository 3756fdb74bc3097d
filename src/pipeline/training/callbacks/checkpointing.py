"""Decide when checkpoints are saved, and which is the best."""

import logging
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from pipeline.constraints import PositiveFloat, PositiveInt
from pipeline.errors import ConfigError
from pipeline.training import checkpoints
from pipeline.training.callbacks.hooks import StepCallback, calls_step_callbacks
from pipeline.training.callbacks.monitored_metric import BestScore
from pipeline.training.checkpoints import BackgroundWriter
from pipeline.training.distributed.periodic_max import PeriodicMax
from pipeline.training.interruption import Interrupted, Interruption

log = logging.getLogger(__name__)


class Checkpointing(Checkpoint, StepCallback, BestScore):
    """Save a checkpoint at the end of every epoch, and every n steps or minutes; keep the newest `keep` and the best.

    It is a Checkpoint, so Lightning calls it after all other callbacks and it saves what they did. Files are written
    while training goes on. When any process got a signal, it saves and raises Interrupted.
    """

    def __init__(
        self,
        *,
        folder: Path,
        interruption: Interruption,
        evaluated: Path | None = None,
        monitor: str | None,
        mode: Literal["min", "max"],
        every_n_steps: PositiveInt | None,
        every_n_minutes: PositiveFloat | None,
        keep: PositiveInt,
    ) -> None:
        self.folder = folder
        self.interruption = interruption
        self.evaluated = evaluated  # the checkpoint that an earlier result is of; it is kept until there is a new one
        self.set_monitor(monitor, mode)
        self.every_n_steps = every_n_steps
        self.every_n_minutes = every_n_minutes
        self.keep = keep
        self.best_name: str | None = None
        self.is_new_best = False
        self.at_limit: dict[str, Any] | None = None  # the checkpoint of a training whose last step is in mid-epoch
        self.is_over = False  # a callback, such as early stopping, ended training with the saved epoch
        self.saved_at = time.monotonic()
        self.writer = BackgroundWriter()
        # One for each place it is called from: a step and a batch of validation take different times.
        self.after_step, self.in_validation, self.after_epoch = PeriodicMax(), PeriodicMax(), PeriodicMax()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.interruption.reinstall_handlers()
        trainer.should_stop |= self.is_over
        if not trainer.is_global_zero:
            return
        checkpoints.remove_partial_files(self.folder)
        # A kill may have come between the checkpoint and the link to it.
        if self.best_name is not None and (self.folder / self.best_name).exists():
            checkpoints.link_checkpoint(self.folder, "best.ckpt", self.folder / self.best_name)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.interruption.reinstall_handlers()

    def after_optimizer_step(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        if _ends_in_mid_epoch(trainer, learner):
            # A run resumed with a higher limit of steps goes on from here, so the epoch's end, which comes next, must
            # not be in the checkpoint.
            self.at_limit = {}
            trainer.save_checkpoint(self._path(trainer), storage_options=self._hold)
        if trainer.is_last_batch and not calls_step_callbacks(learner):
            return  # Lightning cannot resume from there; the end of the epoch is next
        by_steps = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        device = trainer.strategy.root_device
        by_time, signal = self.after_step.all_reduce(self._time_is_up(), self.interruption.signal_number, device=device)
        self._save_if_due(trainer, by_steps or by_time > 0, signal)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:  # before training there is nothing to lose
            (signal,) = self.in_validation.all_reduce(
                self.interruption.signal_number, device=trainer.strategy.root_device
            )
            self._save_if_due(trainer, False, signal)

    @property
    def monitored(self) -> dict[str, str] | None:
        return None if self.monitor is None else {"monitor": self.monitor, "mode": self.mode}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking and not self.in_training:
            self._compare(trainer)

    def _compare(self, trainer: pl.Trainer) -> None:
        if self.monitor is None:
            return
        if self.monitor not in trainer.callback_metrics:
            raise ConfigError(
                f"checkpoint.monitor={self.monitor} is no metric of this run; choose one of "
                f"{', '.join(sorted(trainer.callback_metrics))}"
            )
        self.is_new_best |= self.improves(float(trainer.callback_metrics[self.monitor]))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.in_training:
            self._compare(trainer)
        (signal,) = self.after_epoch.all_reduce(self.interruption.signal_number, device=trainer.strategy.root_device)
        # At the limit of steps a Learner stops in the same way, but such a run may be resumed with a higher limit.
        self.is_over = trainer.should_stop and trainer.global_step != trainer.max_steps
        self._save_if_due(trainer, True, signal)

    def _time_is_up(self) -> bool:
        return self.every_n_minutes is not None and time.monotonic() - self.saved_at >= 60 * self.every_n_minutes

    def _save_if_due(self, trainer: pl.Trainer, due: bool, signal: int) -> None:
        if due or signal:
            saved = self.save(trainer)
            if signal:
                self.writer.wait()
                raise Interrupted(signal, saved.name)

    def save(self, trainer: pl.Trainer) -> Path:
        """Save a checkpoint; all processes call it together. The file is complete once the writer was waited for."""
        path = self._path(trainer)
        is_best, self.is_new_best = self.is_new_best, False
        if is_best:
            self.best_name = path.name

        def link_and_prune() -> None:
            checkpoints.link_checkpoint(self.folder, "last.ckpt", path)
            if is_best:
                checkpoints.link_checkpoint(self.folder, "best.ckpt", path)
            checkpoints.prune_checkpoints(self.folder, keep=self.keep, besides=self.evaluated)

        write = partial(self.writer.write, then=link_and_prune)
        if self.at_limit is None:
            trainer.save_checkpoint(path, storage_options=write)
        elif trainer.is_global_zero:
            write(self.at_limit, path)
        self.saved_at = time.monotonic()
        return path

    def _path(self, trainer: pl.Trainer) -> Path:
        return self.folder / checkpoints.CHECKPOINT_NAME.format(trainer.global_step)

    def _hold(self, checkpoint: dict[str, Any], _: Path) -> None:
        self.at_limit = checkpoint  # in the first process; {} in others

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.writer.wait()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        try:
            self.writer.wait()
        except Exception as error:  # noqa: BLE001  must not hide what ended training
            log.warning("the newest checkpoint could not be written: %s", error)

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score, "best_name": self.best_name, "is_over": self.is_over}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_score, self.best_name = state_dict["best_score"], state_dict["best_name"]
        self.is_over = state_dict.get("is_over", False)


def _ends_in_mid_epoch(trainer: pl.Trainer, module: pl.LightningModule) -> bool:
    if not calls_step_callbacks(module) or trainer.global_step != trainer.max_steps:
        return False
    steps_per_epoch: Any = module.steps_per_epoch  # of a Learner
    return bool(trainer.global_step % steps_per_epoch)
