"""Show the progress of training: a bar on a terminal, a line for each epoch elsewhere."""

import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pipeline.training.callbacks.hooks import StepCallback

UPDATES_PER_SECOND = 4  # drawing takes 3 ms, in which the training waits for the interpreter


class ProgressDisplay(StepCallback):
    """Show epoch, step, loss, validation score, samples per second and time left; record the speed of each epoch.

    total_steps         optimiser steps of the whole run, None if unknown
    samples_per_step    samples of all processes, None if unknown
    headline            the validation metric to show, such as `val/accuracy`
    """

    def __init__(
        self, *, console: Console, total_steps: int | None, samples_per_step: int | None, headline: str
    ) -> None:
        self.console = console
        self.total_steps = total_steps
        self.samples_per_step = samples_per_step
        self.headline = headline
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.shown_at = 0.0
        self.epoch_started_at = 0.0
        self.epoch_first_step = 0
        self.epoch = 0  # counted from 1
        self.training_seconds = 0.0  # in the current epoch, without validation

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and self.console.is_terminal:
            self.bar = Progress(
                TextColumn("[bold]{task.fields[epoch]}"),
                BarColumn(bar_width=None),
                TextColumn("{task.completed:.0f}/{task.fields[of]} steps"),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.console,
                expand=True,
                refresh_per_second=UPDATES_PER_SECOND,
            )
            total = self.total_steps
            self.task = self.bar.add_task("", total=total, epoch="", of="?" if total is None else total)
            self.bar.start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epoch_started_at = time.monotonic()
        self.epoch_first_step = trainer.global_step
        self.epoch = trainer.current_epoch + 1

    def after_optimizer_step(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        self._show(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.training_seconds = time.monotonic() - self.epoch_started_at
        self._show(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        steps = trainer.global_step - self.epoch_first_step
        if steps == 0:
            return  # resumed after its last step
        values = {
            "system/seconds_per_epoch": self.training_seconds,
            "system/step_time_ms": 1000 * self.training_seconds / steps,
        }
        speed = self._samples_per_second(steps)
        if speed is not None:
            values["system/samples_per_second"] = speed
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        if trainer.is_global_zero and self.bar is None:
            self.console.print(f"{self._epoch(trainer)}  step {trainer.global_step}  {self._describe(trainer)}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show(trainer, now=True)
        self.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.close()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _show(self, trainer: pl.Trainer, *, now: bool = False) -> None:
        moment = time.monotonic()
        if self.bar is None or self.task is None or (not now and moment - self.shown_at < 1 / UPDATES_PER_SECOND):
            return
        self.shown_at = moment
        self.training_seconds = moment - self.epoch_started_at if not now else self.training_seconds
        self.bar.update(
            self.task,
            completed=trainer.global_step,
            epoch=self._epoch(trainer),
            description=self._describe(trainer),
        )

    def _epoch(self, trainer: pl.Trainer) -> str:
        last = trainer.max_epochs
        limited = last is not None and last > 0
        return f"epoch {self.epoch}/{last}" if limited else f"epoch {self.epoch}"

    def _describe(self, trainer: pl.Trainer) -> str:
        metrics = trainer.callback_metrics
        shown: list[tuple[str, str, Callable[[float], str]]] = [
            ("train/loss", "loss", "{:.4f}".format),
            (self.headline, self.headline.rpartition("/")[2], "{:.4f}".format),
        ]
        parts = [f"{label} {form(float(metrics[name]))}" for name, label, form in shown if name in metrics]
        speed = self._samples_per_second(trainer.global_step - self.epoch_first_step)
        if speed is not None:
            parts.append(f"{speed:,.0f} samples/s")
        return "  ".join(parts)

    def _samples_per_second(self, steps: int) -> float | None:
        if self.samples_per_step is None or self.training_seconds <= 0 or steps <= 0:
            return None
        return steps * self.samples_per_step / self.training_seconds
