"""The learning rate as a metric."""

import json
import logging
import subprocess
import threading
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import Optimizer

from pipeline.constraints import PositiveFloat
from pipeline.system.files import write_atomically
from pipeline.training.callbacks.hooks import StepCallback, calls_step_callbacks
from pipeline.training.checkpoints import VerifiedCheckpointIO
from pipeline.training.distributed.sharding import full_tensor


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


class GradientNorm(pl.Callback):
    """Records `train/gradient_norm` at every point of logging: the Euclidean norm over all weights, before clipping.

    Of one step, not of an interval: at each step it would have to be waited for.
    """

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        step = trainer.global_step + 1  # once it is done
        if step % trainer.log_every_n_steps != 0:  # type: ignore[attr-defined]  # set by its connector
            return
        gradients = [each.grad for each in pl_module.parameters() if each.grad is not None]
        norm = float(full_tensor(nn.utils.get_total_norm(gradients))) if gradients else 0.0
        for logger in trainer.loggers:
            logger.log_metrics({"train/gradient_norm": norm}, step=step)


SMI_SECONDS = 5.0
MEGABYTE = 1e6


def node_usage(folder: Path) -> dict[str, float]:
    """Percent of all cores since the last call, of memory, and of the disk that `folder` lies on."""
    return {
        "cpu_percent": psutil.cpu_percent(interval=None),
        "memory_percent": psutil.virtual_memory().percent,
        "disk_percent": psutil.disk_usage(str(folder)).percent,
    }


def process_usage(device: torch.device) -> dict[str, float]:
    """Resident memory of this process in MB; load (percent) and memory in use (MB) of its GPU, if it has one."""
    found = {"process_memory_mb": psutil.Process().memory_info().rss / MEGABYTE}
    return found | (gpu_usage(device) if device.type == "cuda" else {})


def gpu_usage(device: torch.device) -> dict[str, float]:
    """Asked of the driver's own program, which needs no further package; {} where it does not answer."""
    identity = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    query = ["nvidia-smi", f"--id={identity}", "--query-gpu=utilization.gpu,memory.used"]
    try:
        answer = subprocess.run(
            [*query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=SMI_SECONDS, check=True
        )
        load, mebibytes = (float(value) for value in answer.stdout.split(","))
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    return {"gpu_percent": load, "gpu_memory_mb": mebibytes * 1024**2 / MEGABYTE}


FOLDER = ".system"  # in the run directory: what the other processes have to tell

log = logging.getLogger(__name__)


class SystemMetrics(pl.Callback):
    """Records `system/*` every n seconds, from a thread: training waits for nothing.

    cpu_percent, memory_percent, disk_percent   of the first node; of others with their number before: node1_cpu_percent
    process_memory_mb, gpu_percent, gpu_memory_mb   of the first process; of others: rank1_process_memory_mb

    Each process samples itself. The first one writes all samples into the journal; the others leave theirs in the run
    directory for it.
    """

    def __init__(self, *, every_n_seconds: PositiveFloat) -> None:
        self.every_n_seconds = every_n_seconds
        self.thread: threading.Thread | None = None
        self.over = threading.Event()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        node_usage(self._folder(trainer))  # from here on the load is counted
        self.over.clear()
        self.thread = threading.Thread(target=self._watch, args=[trainer], name="system-metrics", daemon=True)
        self.thread.start()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()
        self._sample(trainer)  # also of a run that was too short for one

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        self.over.set()
        if self.thread is not None:
            self.thread.join(SMI_SECONDS)
            self.thread = None

    def _watch(self, trainer: pl.Trainer) -> None:
        while not self.over.wait(self.every_n_seconds):
            self._sample(trainer)

    def _sample(self, trainer: pl.Trainer) -> None:
        try:
            found = self._own(trainer)
            if trainer.is_global_zero:
                found |= self._of_others(trainer)
                for logger in trainer.loggers:
                    logger.log_metrics({f"system/{name}": value for name, value in found.items()}, trainer.global_step)
            else:
                folder = self._folder(trainer) / FOLDER
                folder.mkdir(exist_ok=True)
                write_atomically(folder / f"rank{trainer.global_rank}.json", json.dumps(found))
        except OSError as problem:  # a full or a lost disk is for the checkpoints to tell
            log.info("no system metrics: %s", problem)

    def _own(self, trainer: pl.Trainer) -> dict[str, float]:
        rank, node = trainer.global_rank, trainer.node_rank
        found = _named(f"rank{rank}" if rank > 0 else "", process_usage(trainer.strategy.root_device))
        if trainer.local_rank == 0:
            found |= _named(f"node{node}" if node > 0 else "", node_usage(self._folder(trainer)))
        return found

    def _of_others(self, trainer: pl.Trainer) -> dict[str, float]:
        found: dict[str, float] = {}
        for rank in range(1, trainer.world_size):
            path = self._folder(trainer) / FOLDER / f"rank{rank}.json"
            if path.exists():
                found |= json.loads(path.read_text(encoding="utf-8"))
        return found

    def _folder(self, trainer: pl.Trainer) -> Path:
        return Path(trainer.default_root_dir)


def _named(whose: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{whose}_{name}" if whose else name: value for name, value in values.items()}


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


class EpochTiming(pl.Callback):
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
