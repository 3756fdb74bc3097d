"""The one LightningModule: many optimiser steps in one `training_step`.

Lightning's bookkeeping costs 0.3-0.6 ms a batch, more than a small network's own step. The loader therefore hands
over a chunk of consecutive steps, up to the next point of logging, and Lightning sees one batch a chunk. What Lightning
would do for each step (precision, clipping, accumulation, DDP's all-reduce, progress) is done here for each step,
through Lightning's own plugins (engine.py).

The path of a batch: chunk -> micro-batch -> `transform` (augmentation) -> `forward_backward` (network, task's loss,
penalties) -> the engine's step -> schedule -> callbacks.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from pipeline.spec import Batch
from pipeline.training.callbacks.hooks import BatchTransform, StepCallback
from pipeline.training.distributed.global_batch import LocalRows, global_batch_semantics, reseed
from pipeline.training.distributed.sharding import full_tensor, reshard, shard_network
from pipeline.training.engine import Engine, check_clipping, make_engine
from pipeline.training.evaluation import Evaluation, RunningMeans, broadcast_buffers
from pipeline.training.lightning_private import rewind_to_epoch_start, tell_monitors
from pipeline.training.optimizers import OptimizerFactory
from pipeline.training.regularizers import Regularizer
from pipeline.training.schedules import Schedule
from pipeline.training.task import Task, mixed_loss, mixed_sample_metrics
from pipeline.training.torch_private import forget_length

# B batch, K scores

log = logging.getLogger(__name__)

Chunk = Collection[list[Batch]]  # consecutive optimiser steps, each a list of its micro-batches
Sums = tuple[dict[str, Tensor], int]  # sums of named values over samples, and the number of samples


def as_chunk(batch: Any, batch_idx: int) -> Chunk:
    """Return our loader's chunk as it is, and a batch (inputs, targets) of a user's own loader as a single step."""
    return [[as_batch(batch, batch_idx)]] if isinstance(batch, tuple | list | Batch) else batch


def as_batch(batch: Any, batch_idx: int) -> Batch:
    """Return a Batch of what a loader yields: a Batch, or a pair (inputs, targets)."""
    if isinstance(batch, Batch):
        return batch
    inputs, targets = batch
    # A user's loader does not say which rows it took; the batch's number keeps their order.
    return Batch(inputs, targets, torch.full((len(targets),), batch_idx, device=targets.device))


class Learner(pl.LightningModule):
    """Train `network` on `task`.

    network          raw inputs -> scores; the part that is saved, exported and served
    steps_per_epoch  optimiser steps in an epoch
    total_steps      optimiser steps in the whole training, for the schedule
    sync_batchnorm   whether batch norm takes its statistics over all processes
    """

    calls_step_callbacks = True

    def __init__(
        self,
        *,
        network: nn.Module,
        task: Task,
        regularizers: Sequence[Regularizer],
        make_optimizer: OptimizerFactory,
        schedule: Schedule,
        steps_per_epoch: int,
        total_steps: int,
        seed: int,
        gradient_clip_val: float | None,
        gradient_clip_algorithm: str,
        sync_batchnorm: bool,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.task = task
        self.regularizers = regularizers
        self.make_optimizer = make_optimizer
        self.schedule = schedule
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = total_steps
        self.seed = seed
        self.gradient_clip_val = gradient_clip_val
        self.gradient_clip_algorithm = gradient_clip_algorithm
        self.sync_batchnorm = sync_batchnorm
        self.validation = Evaluation(task)
        self.testing = Evaluation(task, keep_scores=True)
        self.interval = RunningMeans()  # since the last point of logging
        self.epoch = RunningMeans()  # from the start of the epoch to the last point of logging
        self.interval_is_over = False  # after the current step, for callbacks
        self._warned_of: set[str] = set()  # undefined metrics
        self._newest: dict[str, float] = {}  # the newest value of each metric in this epoch
        self._step_callbacks: list[StepCallback] = []
        self._transforms: list[BatchTransform] = []

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.network(inputs)
        return scores

    def configure_model(self) -> None:
        # Lightning converts once more after it loads a checkpoint, when float64 weights would be rounded already.
        self.trainer.precision_plugin.convert_module(self)
        if self.device_mesh is not None:
            shard_network(self.network, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.network.parameters())
        scheduler = self.schedule.make(optimizer, total_steps=self.total_steps, steps_per_epoch=self.steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.schedule.interval}}

    # ---- training: one optimiser step, from top to bottom

    def on_fit_start(self) -> None:
        callbacks: list[pl.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]  # set by its connector
        self._step_callbacks = [callback for callback in callbacks if isinstance(callback, StepCallback)]
        self._transforms = [callback for callback in callbacks if isinstance(callback, BatchTransform)]
        check_clipping(self.trainer, self.gradient_clip_val)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        chunk = as_chunk(batch, batch_idx)
        engine = make_engine(self, cast(LightningOptimizer, self.optimizers()))
        scheduler = cast(LRScheduler, self.lr_schedulers())
        self.interval_is_over = False
        for number, micro_batches in enumerate(chunk, start=1):
            engine.zero_grad()
            for sums, count in self.compute_gradients(micro_batches, engine):
                self.interval.add(sums, count)
            engine.step()
            # Autocast keeps low-precision copies of the weights until its outermost context ends, which Lightning
            # opened around the whole chunk: without this the next steps would use stale weights.
            torch.clear_autocast_cache()
            if self.schedule.interval == "step":
                scheduler.step()
            is_last = self.global_step == self.trainer.max_steps
            if is_last or number == len(chunk):
                # Before the callbacks: a checkpoint that one of them saves must not hold an interval that is over.
                self._end_interval()
            for callback in self._step_callbacks:
                callback.after_optimizer_step(self.trainer, self)
            if is_last:
                self.trainer.should_stop = True  # after a validation: the last weights are always evaluated
                break

    def compute_gradients(self, micro_batches: Sequence[Batch], engine: Engine) -> list[Sums]:
        """Add up the gradient of the mean over all micro-batches, and over all processes in the last backward pass."""
        step, weight, sums = self.global_step, 1 / len(micro_batches), []
        for index, batch in enumerate(micro_batches):
            is_last = index == len(micro_batches) - 1
            batch = self.transform(batch, step, index)
            with nullcontext() if is_last else self.no_gradient_sync():
                sums.append(self.forward_backward(batch, slice(0, len(batch)), weight, engine, step, index))
        return sums

    def transform(self, batch: Batch, step: int, index: int) -> Batch:
        """Return micro-batch `index` of this step on the device, changed by all augmentations."""
        if batch.inputs.device != self.device:
            batch = batch.to(self.device, non_blocking=True)
        if self._transforms:
            reseed(self.seed, f"augmentation {index}", step)
            for callback in self._transforms:
                batch = callback.transform_batch(self.trainer, batch)
        return batch

    def forward_backward(self, batch: Batch, rows: slice, weight: float, engine: Engine, step: int, index: int) -> Sums:
        """Add the gradient of `weight` times the mean loss of `batch`, which is these rows of micro-batch `index`."""
        reseed(self.seed, f"network {index}", step)
        with self.global_batch(rows):  # also around backward, which may compute parts of the forward pass again
            loss, sums = self.loss_and_sums(batch)
            engine.backward(loss * weight if weight != 1 else loss)
        return sums

    def loss_and_sums(self, batch: Batch) -> tuple[Tensor, Sums]:
        """Return the mean loss with its penalties, and sums of loss and metrics over the samples, without gradient."""
        reshard(self.network)
        penalties = [full_tensor(regularizer.penalty(self.network)) for regularizer in self.regularizers]
        scores = self.network(batch.inputs).float()
        loss = sum(penalties, mixed_loss(self.task, scores, batch))
        sums = {"loss": loss.detach() * len(batch)}
        metrics = mixed_sample_metrics(self.task, scores.detach(), batch)
        sums |= {name: values.sum() for name, values in metrics.items()}
        return loss, (sums, len(batch))

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # Not self.clip_gradients: Lightning refuses it for every fused optimiser under mixed precision, also for
        # bf16, where gradients are never scaled. (`on_fit_start` refuses it where they are.)
        if self.gradient_clip_val is None:
            return
        if self.gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(self.parameters(), self.gradient_clip_val)
        else:
            nn.utils.clip_grad_norm_(self.parameters(), self.gradient_clip_val)

    def global_batch(self, rows: slice) -> AbstractContextManager[None]:
        """Let torch treat these rows of this process's share as part of the global batch of all processes."""
        first, processes = self.global_rank * rows.stop, self.trainer.world_size
        in_global_batch = slice(first + rows.start, first + rows.stop, rows.step)
        sync_batchnorm = self.sync_batchnorm and processes > 1
        return global_batch_semantics(LocalRows(processes * rows.stop, in_global_batch, sync_batchnorm))

    def no_gradient_sync(self) -> AbstractContextManager[None]:
        """Accumulate gradients in each process alone, as DDP's `no_sync`."""
        block = getattr(self.trainer.strategy, "block_backward_sync", nullcontext)
        context: AbstractContextManager[None] = block()
        return context

    def _end_interval(self) -> None:
        self.interval_is_over = True
        self._record_means(self.interval, "train/{}")
        self.epoch.merge(self.interval)
        self.interval.reset()

    def on_train_epoch_end(self) -> None:
        if self.epoch.sums:  # not the count, which can be 0 in one of several processes alone
            self._record_means(self.epoch, "train/{}_epoch")
            self.epoch.reset()
        if self.schedule.interval == "epoch":
            self._step_schedule()
        self._newest.clear()
        for logger in self.trainer.loggers:
            logger.save()

    def _step_schedule(self) -> None:
        scheduler = cast(LRScheduler, self.lr_schedulers())
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()
        elif self.schedule.monitor in self._newest:  # not in an epoch without validation
            scheduler.step(self._newest[self.schedule.monitor])

    # ---- evaluation

    def on_validation_start(self) -> None:
        broadcast_buffers(self.network)

    def on_test_start(self) -> None:
        broadcast_buffers(self.network)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        batch = as_batch(batch, batch_idx)
        self.validation.update(self.network(batch.inputs).float(), batch)

    def on_validation_epoch_end(self) -> None:
        self.record({f"val/{name}": value for name, value in self.validation.compute().items()})
        self._warn_of_undefined("val", "validation", self.validation)
        self.validation.reset()

    def test_step(self, batch: Any, batch_idx: int) -> None:
        batch = as_batch(batch, batch_idx)
        self.testing.update(self.network(batch.inputs).float(), batch)

    def on_test_epoch_end(self) -> None:
        self.record({f"test/{name}": value for name, value in self.testing.compute().items()})
        self._warn_of_undefined("test", "test", self.testing)

    def _warn_of_undefined(self, prefix: str, part: str, evaluation: Evaluation) -> None:
        """Warn once of each metric, not in every epoch."""
        for name, reason in evaluation.undefined.items():
            if (metric := f"{prefix}/{name}") not in self._warned_of:
                self._warned_of.add(metric)
                log.warning(f"{metric} is not defined, and not recorded: {reason} in the {part} part")

    # ---- metrics and checkpoints

    def record(self, values: Mapping[str, Tensor | float]) -> None:
        """Give metrics to the loggers, under the number of optimiser steps, and to the callbacks that monitor them.

        Lightning's `self.log` would count chunks as steps, average over what came after a restart alone, and take a
        millisecond a metric, as much as the whole step of a small network.
        """
        metrics = {name: float(value) for name, value in values.items()}
        self._newest |= metrics
        tell_monitors(self.trainer, metrics)
        for logger in self.trainer.loggers:
            logger.log_metrics(metrics, step=self.global_step)

    def _record_means(self, means: RunningMeans, pattern: str) -> None:
        self.record({pattern.format(name): value for name, value in means.compute(self._sum_over_processes).items()})

    def _sum_over_processes(self, values: Tensor) -> Any:
        return self.trainer.strategy.reduce(values, reduce_op="sum")

    def _gather_over_processes(self, row: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return row
        gathered: Tensor = self.trainer.strategy.all_gather(row.to(self.device))
        return gathered

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        rewind_to_epoch_start(checkpoint)
        running = {"interval": self.interval, "epoch": self.epoch}
        checkpoint["running"] = {name: means.state_dict(self._gather_over_processes) for name, means in running.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # The settings say how long training lasts, also when a run is resumed to go on for longer.
        for schedule in checkpoint["lr_schedulers"]:
            forget_length(schedule)
        processes = {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}
        for name, means in {"interval": self.interval, "epoch": self.epoch}.items():
            means.load_state_dict(checkpoint["running"][name], **processes)
