"""Callbacks that measure the engine from within a run of the real program."""

import json
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from pipeline.training.callbacks.checkpointing import Checkpointing
from pipeline.training.callbacks.send_heartbeats import SendHeartbeats


class _Aside(pl.Callback):
    """Every other interval of steps goes without something.

    `report` gets pairs of seconds a step (with, without), without the first epoch's.
    """

    def __init__(self, report: str) -> None:
        self.report = report
        self.pairs: list[tuple[float, float]] = []
        self.seconds_with: float | None = None
        self.is_on = True
        self.started_at, self.steps_before = 0.0, 0

    def switch(self, trainer: pl.Trainer, pl_module: Any, *, on: bool) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """What an interval with it has left undone."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self.steps_before, self.started_at = trainer.global_step, time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if self.is_on:
            self.finish()
        seconds = (time.perf_counter() - self.started_at) / max(trainer.global_step - self.steps_before, 1)
        if self.is_on:
            self.seconds_with = seconds
        elif self.seconds_with is not None and trainer.current_epoch > 0:
            self.pairs.append((self.seconds_with, seconds))
        self.is_on = not self.is_on
        self.switch(trainer, pl_module, on=self.is_on)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.is_on, self.seconds_with = True, None
        self.switch(trainer, pl_module, on=True)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            Path(self.report).write_text(json.dumps(self.pairs))


class EngineAside(_Aside):
    """Without agreement, checkpoints, signs of life and journal.

    What is written in the background is waited for within the interval that asked for it, so that it never burdens the
    other kind.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.step_callbacks = list(pl_module._step_callbacks)
        self.others = [each for each in self.step_callbacks if not isinstance(each, Checkpointing | SendHeartbeats)]
        self.loggers = list(trainer.loggers)
        (self.checkpointing,) = (each for each in self.step_callbacks if isinstance(each, Checkpointing))

    def switch(self, trainer: pl.Trainer, pl_module: Any, *, on: bool) -> None:
        pl_module._step_callbacks = self.step_callbacks if on else self.others
        trainer.loggers = self.loggers if on else []

    def finish(self) -> None:
        self.checkpointing.writer.wait()


class GlobalBatchAside(_Aside):
    """With torch's own dropout, and batch norm of each process's samples."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.global_batch = pl_module.global_batch

    def switch(self, trainer: pl.Trainer, pl_module: Any, *, on: bool) -> None:
        pl_module.global_batch = self.global_batch if on else lambda rows: nullcontext()


class Blocked(pl.Callback):
    """Seconds that training stood still for each checkpoint; `report` also gets the bytes of the weights."""

    def __init__(self, report: str) -> None:
        self.report = report
        self.seconds: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        (checkpointing,) = (each for each in pl_module._step_callbacks if isinstance(each, Checkpointing))
        save = checkpointing.save

        def timed(trainer: pl.Trainer) -> Path:
            started_at = time.perf_counter()
            path = save(trainer)
            self.seconds.append(time.perf_counter() - started_at)
            return path

        checkpointing.save = timed  # type: ignore[method-assign]

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        size = sum(each.nbytes for each in pl_module.network.parameters())
        Path(self.report).write_text(json.dumps({"seconds": self.seconds, "bytes": size}))
