"""Record the learning rate, the norm of gradients, the load of the machine, and where the time goes."""

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
    """Record `train/learning_rate` at every point of logging, for the first group of parameters.

    A Learner's is recorded right after the step, before a checkpoint is saved: otherwise a run that is killed there and
    resumed would miss the point. A user's own module's is recorded after each batch.
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
    """Record `train/gradient_norm` at every point of logging: the Euclidean norm over all weights, before clipping.

    It is the norm of one step, not a mean over the interval: reading it at each step would wait for the device.
    """

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        step = trainer.global_step + 1  # after this step
        if step % trainer.log_every_n_steps != 0:  # type: ignore[attr-defined]  # set by its connector
            return
        gradients = [weight.grad for weight in pl_module.parameters() if weight.grad is not None]
        norm = float(full_tensor(nn.utils.get_total_norm(gradients))) if gradients else 0.0
        for logger in trainer.loggers:
            logger.log_metrics({"train/gradient_norm": norm}, step=step)


SMI_SECONDS = 5.0
MEGABYTE = 1e6


def node_usage(folder: Path) -> dict[str, float]:
    """Return percent of all cores since the last call, of memory, and of the disk that holds `folder`."""
    return {
        "cpu_percent": psutil.cpu_percent(interval=None),
        "memory_percent": psutil.virtual_memory().percent,
        "disk_percent": psutil.disk_usage(str(folder)).percent,
    }


def process_usage(device: torch.device) -> dict[str, float]:
    """Return resident memory of this process in MB; load (percent) and used memory (MB) of its GPU, if it has one."""
    usage = {"process_memory_mb": psutil.Process().memory_info().rss / MEGABYTE}
    return usage | (gpu_usage(device) if device.type == "cuda" else {})


def gpu_usage(device: torch.device) -> dict[str, float]:
    """Return what nvidia-smi says, which needs no further package; {} if it does not answer."""
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


FOLDER = ".system"  # in the run directory: samples of the other processes

log = logging.getLogger(__name__)


class SystemMetrics(pl.Callback):
    """Record `system/*` every n seconds, from a thread, so that training does not wait.

    cpu_percent, memory_percent, disk_percent       of the first node; of others with a prefix: node1_cpu_percent
    process_memory_mb, gpu_percent, gpu_memory_mb   of the first process; of others: rank1_process_memory_mb

    Each process samples itself. The first one writes all samples into the journal; the others leave theirs in the run
    directory for it.
    """

    def __init__(self, *, every_n_seconds: PositiveFloat) -> None:
        self.every_n_seconds = every_n_seconds
        self.thread: threading.Thread | None = None
        self.over = threading.Event()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        node_usage(self._folder(trainer))  # starts the count of processor time
        self.over.clear()
        self.thread = threading.Thread(target=self._watch, args=[trainer], name="system-metrics", daemon=True)
        self.thread.start()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()
        self._sample(trainer)  # also in a run shorter than the interval

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
            usage = self._own_usage(trainer)
            if trainer.is_global_zero:
                usage |= self._usage_of_others(trainer)
                for logger in trainer.loggers:
                    logger.log_metrics({f"system/{name}": value for name, value in usage.items()}, trainer.global_step)
            else:
                folder = self._folder(trainer) / FOLDER
                folder.mkdir(exist_ok=True)
                write_atomically(folder / f"rank{trainer.global_rank}.json", json.dumps(usage))
        except OSError as error:  # checkpoints report a full or a lost disk
            log.info("no system metrics: %s", error)

    def _own_usage(self, trainer: pl.Trainer) -> dict[str, float]:
        rank, node = trainer.global_rank, trainer.node_rank
        usage = _with_prefix(f"rank{rank}" if rank > 0 else "", process_usage(trainer.strategy.root_device))
        if trainer.local_rank == 0:
            usage |= _with_prefix(f"node{node}" if node > 0 else "", node_usage(self._folder(trainer)))
        return usage

    def _usage_of_others(self, trainer: pl.Trainer) -> dict[str, float]:
        usage: dict[str, float] = {}
        for rank in range(1, trainer.world_size):
            path = self._folder(trainer) / FOLDER / f"rank{rank}.json"
            if path.exists():
                usage |= json.loads(path.read_text(encoding="utf-8"))
        return usage

    def _folder(self, trainer: pl.Trainer) -> Path:
        return Path(trainer.default_root_dir)


def _with_prefix(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}" if prefix else name: value for name, value in values.items()}


DATA = "system/seconds_data"
STEPS = "system/seconds_steps"
VALIDATION = "system/seconds_validation"
CHECKPOINTS = "system/seconds_checkpoints"
DATA_SHARE = "system/data_wait_percent"


class TimedCheckpointIO(VerifiedCheckpointIO):
    """Count the seconds that writing checkpoints takes."""

    seconds_saving = 0.0

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        started_at = perf_counter()
        super().save_checkpoint(*args, **kwargs)
        self.seconds_saving += perf_counter() - started_at


class EpochTiming(pl.Callback):
    """Record for each epoch the seconds spent on data, optimiser steps, validation and checkpoints.

    The share of data is that of data and steps together.

    It never waits for an accelerator: there, drawing a batch only enqueues the work, and the steps contain what is
    waited for at the next point of logging. Lightning's hooks time a user's own loader; ours draws within the steps
    and counts its own time (`seconds_drawing`).
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys((DATA, STEPS, VALIDATION, CHECKPOINTS), 0.0)
        self.last = (0.0, 0.0, 0.0)  # the clock, the loader's seconds, the checkpoints' seconds

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.last = _clocks(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._record(trainer)  # the epoch before, with the checkpoint at its end

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
        """Count the seconds since the last lap for `name`, without those that the loader or a checkpoint took."""
        if self.last[0] == 0:  # Lightning's sanity check, before training
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
