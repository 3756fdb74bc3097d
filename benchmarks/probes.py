"""Callbacks that measure the engine from within a run of the real program."""

import json
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from pipeline.training.callbacks.checkpointing import Checkpointing
from pipeline.training.callbacks.heartbeat import Heartbeat


class EngineAside(pl.Callback):
    """Every other interval of steps goes without agreement, checkpoints, signs of life and journal.

    What is written in the background is waited for within the interval that asked for it, so that it never burdens the
    other kind. `report` gets pairs of seconds a step (with, without), without the first epoch's.
    """

    def __init__(self, report: str) -> None:
        self.report = report
        self.pairs: list[tuple[float, float]] = []
        self.with_engine: float | None = None
        self.engine_is_on = True
        self.started_at, self.steps_before = 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.step_callbacks = list(pl_module._step_callbacks)
        self.others = [each for each in self.step_callbacks if not isinstance(each, Checkpointing | Heartbeat)]
        self.loggers = list(trainer.loggers)
        (self.checkpointing,) = (each for each in self.step_callbacks if isinstance(each, Checkpointing))

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self.steps_before, self.started_at = trainer.global_step, time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if self.engine_is_on:
            self.checkpointing.writer.wait()
        seconds = (time.perf_counter() - self.started_at) / max(trainer.global_step - self.steps_before, 1)
        if self.engine_is_on:
            self.with_engine = seconds
        elif self.with_engine is not None and trainer.current_epoch > 0:
            self.pairs.append((self.with_engine, seconds))
        self.engine_is_on = not self.engine_is_on
        pl_module._step_callbacks = self.step_callbacks if self.engine_is_on else self.others
        trainer.loggers = self.loggers if self.engine_is_on else []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.engine_is_on, self.with_engine = True, None
        pl_module._step_callbacks, trainer.loggers = self.step_callbacks, self.loggers

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            Path(self.report).write_text(json.dumps(self.pairs))


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
