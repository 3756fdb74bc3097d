"""The one LightningModule: many optimiser steps in one `training_step`.

Lightning's bookkeeping costs 0.3-0.6 ms a batch, more than a small network's own step. The loader therefore hands
over a chunk of consecutive steps (up to the next point of logging), and Lightning sees one batch a chunk. What it
would do for each step (precision, clipping, accumulation, DDP's all-reduce, progress) is done here for each step,
through its own plugins.
"""

import logging
from collections.abc import Callable, Sequence
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
from pipeline.training.engine import Engine, as_batch, as_chunk, check_clipping, make_engine
from pipeline.training.evaluation import Evaluation, RunningMeans, broadcast_buffers
from pipeline.training.lightning_private import rewind_to_epoch_start, tell_monitors
from pipeline.training.optimizers import OptimizerFactory
from pipeline.training.regularizers import Regularizer
from pipeline.training.schedules import Schedule
from pipeline.training.task import Task
from pipeline.training.torch_private import forget_length

# B batch, K scores


def mixed_loss(task: Task, scores: Tensor, batch: Batch) -> Tensor:
    """The task's mean loss; of mixed samples that of both targets, by their shares (Zhang et al. 2018, section 2).

    For cross-entropy this is the loss of the mixed target, for the squared error its gradient is.
    """
    own = task.loss(scores, batch.targets)
    if batch.mixed is None:
        return own
    return own.lerp(task.loss(scores, batch.mixed.targets), batch.mixed.share)


def mixed_sample_metrics(task: Task, scores: Tensor, batch: Batch) -> dict[str, Tensor]:
    """The task's scores of each sample (B,); of mixed samples those of both targets, by their shares."""
    own = task.sample_metrics(scores, batch.targets)
    if batch.mixed is None:
        return own
    others = task.sample_metrics(scores, batch.mixed.targets)
    return {name: hits.float().lerp(others[name].float(), batch.mixed.share) for name, hits in own.items()}


log = logging.getLogger(__name__)

Sums = tuple[dict[str, Tensor], int]


class Learner(pl.LightningModule):
    """Trains `network` on `task`.

    network          raw inputs -> scores; the part that is saved, exported and served
    steps_per_epoch  optimiser steps in an epoch
    total_steps      optimiser steps in the whole of training, for the schedule
    sync_batchnorm   whether several processes take batch norm's statistics together
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
        self.interval_is_over = False  # after the step that is under way, for callbacks
        self._told: set[str] = set()
        self._recorded: dict[str, float] = {}  # the newest values of this epoch
        self._step_callbacks: list[StepCallback] = []
        self._transforming: list[BatchTransform] = []

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.network(inputs)
        return scores

    def configure_model(self) -> None:
        # Lightning does it once more after a checkpoint is loaded, when its float64 weights would be rounded already.
        self.trainer.precision_plugin.convert_module(self)
        if self.device_mesh is not None:
            shard_network(self.network, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.network.parameters())
        scheduler = self.schedule.make(optimizer, total_steps=self.total_steps, steps_per_epoch=self.steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.schedule.interval}}

    # ---- training

    def on_fit_start(self) -> None:
        callbacks: list[pl.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]  # set by its connector
        self._step_callbacks = [each for each in callbacks if isinstance(each, StepCallback)]
        self._transforming = [each for each in callbacks if isinstance(each, BatchTransform)]
        check_clipping(self.trainer, self.gradient_clip_val)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        chunk = as_chunk(batch, batch_idx)
        optimizer = cast(LightningOptimizer, self.optimizers())
        steps = make_engine(self, optimizer)
        scheduler = cast(LRScheduler, self.lr_schedulers())
        self.interval_is_over = False
        for number, micro_batches in enumerate(chunk, start=1):
            self._optimise(micro_batches, steps)
            if self.schedule.interval == "step":
                scheduler.step()
            is_last = self.global_step == self.trainer.max_steps
            # Before the callbacks: a checkpoint that one of them takes must not hold an interval that is over.
            if is_last or number == len(chunk):
                self.interval_is_over = True
                self.record(self._across_processes(self.interval, "train/{}"))
                self.epoch.merge(self.interval)
                self.interval.reset()
            for callback in self._step_callbacks:
                callback.after_optimizer_step(self.trainer, self)
            if is_last:
                # Validates, then ends: the last weights of a run are always judged.
                self.trainer.should_stop = True
                break

    def _optimise(self, micro_batches: list[Batch], steps: Engine) -> None:
        steps.zero_grad()
        for sums, count in self.compute_gradients(micro_batches, steps):
            self.interval.add(sums, count)
        steps.update()
        # Autocast keeps the low-precision copies of the weights until its outermost context ends, which
        # Lightning opened around the whole chunk: without this the next steps would use stale weights.
        torch.clear_autocast_cache()

    def compute_gradients(self, micro_batches: Sequence[Batch], steps: Engine) -> list[Sums]:
        """Add up the gradient of the mean over all micro-batches, and over all processes in the last one's backward."""
        step, share, found = self.global_step, 1 / len(micro_batches), []
        for index, batch in enumerate(micro_batches):
            batch = self.augmented(batch, step, index)
            with nullcontext() if index == len(micro_batches) - 1 else self.without_synchronisation():
                found.append(self.forward_backward(batch, slice(0, len(batch)), share, steps, step, index))
        return found

    def augmented(self, batch: Batch, step: int, index: int) -> Batch:
        if batch.inputs.device != self.device:
            batch = batch.to(self.device, non_blocking=True)
        if self._transforming:
            reseed(self.seed, f"augmentation {index}", step)
            for callback in self._transforming:
                batch = callback.transform_batch(self.trainer, batch)
        return batch

    def forward_backward(self, batch: Batch, rows: slice, share: float, steps: Engine, step: int, index: int) -> Sums:
        """Add the gradient of `share` of the batch's mean loss; the batch is these rows of micro-batch `index`.

        Returns sums over its samples, for the running means, and their number.
        """
        reseed(self.seed, f"network {index}", step)
        # Backward, too: it may compute parts of the forward pass again.
        with self.sharing(rows):
            loss, sums = self.loss_and_sums(batch)
            steps.backward(loss * share if share != 1 else loss)
        return sums

    def loss_and_sums(self, batch: Batch) -> tuple[Tensor, Sums]:
        reshard(self.network)
        penalties = [full_tensor(regularizer.penalty(self.network)) for regularizer in self.regularizers]
        scores = self.network(batch.inputs).float()
        loss = sum(penalties, mixed_loss(self.task, scores, batch))
        sums = {"loss": loss.detach() * len(batch)}
        sums |= {name: hit.sum() for name, hit in mixed_sample_metrics(self.task, scores.detach(), batch).items()}
        return loss, (sums, len(batch))

    def sharing(self, rows: slice) -> AbstractContextManager[None]:
        """Torch works on these rows of this process's part of the global batch, whose other parts are as large."""
        first, processes = self.global_rank * rows.stop, self.trainer.world_size
        of_all = slice(first + rows.start, first + rows.stop, rows.step)
        return global_batch_semantics(LocalRows(processes * rows.stop, of_all, self.sync_batchnorm and processes > 1))

    def without_synchronisation(self) -> AbstractContextManager[None]:
        """Accumulate on each process; the last micro-batch's backward sums over them."""
        block = getattr(self.trainer.strategy, "block_backward_sync", nullcontext)
        context: AbstractContextManager[None] = block()
        return context

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # Not self.clip_gradients: Lightning refuses it for every fused optimiser under mixed precision, also for
        # bf16, where gradients are never scaled. (`on_fit_start` refuses it where they are.)
        if self.gradient_clip_val is None:
            return
        if self.gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(self.parameters(), self.gradient_clip_val)
        else:
            nn.utils.clip_grad_norm_(self.parameters(), self.gradient_clip_val)

    def on_train_epoch_end(self) -> None:
        if self.epoch.sums:  # not the count, which can be 0 in one of several processes alone
            self.record(self._across_processes(self.epoch, "train/{}_epoch"))
            self.epoch.reset()
        if self.schedule.interval == "epoch":
            self._step_schedule()
        self._recorded.clear()
        for logger in self.trainer.loggers:
            logger.save()

    def _step_schedule(self) -> None:
        scheduler = cast(LRScheduler, self.lr_schedulers())
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()
        elif self.schedule.monitor in self._recorded:  # not in an epoch without validation
            scheduler.step(self._recorded[self.schedule.monitor])

    # ---- judging

    def on_validation_start(self) -> None:
        broadcast_buffers(self.network)

    def on_test_start(self) -> None:
        broadcast_buffers(self.network)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        batch = as_batch(batch, batch_idx)
        self.validation.update(self.network(batch.inputs).float(), batch)

    def on_validation_epoch_end(self) -> None:
        self.record({f"val/{name}": value for name, value in self.validation.compute().items()})
        self._tell_undefined("val", "validation", self.validation)
        self.validation.reset()

    def test_step(self, batch: Any, batch_idx: int) -> None:
        batch = as_batch(batch, batch_idx)
        self.testing.update(self.network(batch.inputs).float(), batch)

    def on_test_epoch_end(self) -> None:
        self.record({f"test/{name}": value for name, value in self.testing.compute().items()})
        self._tell_undefined("test", "test", self.testing)

    def _tell_undefined(self, prefix: str, part: str, evaluation: Evaluation) -> None:
        """Once, not in every epoch."""
        for name, why in evaluation.undefined.items():
            if (metric := f"{prefix}/{name}") not in self._told:
                self._told.add(metric)
                log.warning(f"{metric} is not defined, and not recorded: {why} in the {part} part")

    # ---- what is recorded and what is saved

    def record(self, values: dict[str, Tensor | float]) -> None:
        """To the loggers under the optimiser step (Lightning would count chunks), and to whoever monitors a metric.

        Not by self.log: Lightning must not average (after a restart it would miss what came before), and a
        millisecond a metric is as much as the whole step of a small network.
        """
        plain = {name: float(value) for name, value in values.items()}
        self._recorded |= plain
        tell_monitors(self.trainer, plain)
        for logger in self.trainer.loggers:
            logger.log_metrics(plain, step=self.global_step)

    def _across_processes(self, means: RunningMeans, pattern: str) -> dict[str, Tensor | float]:
        reduce: Callable[[Tensor], Any] = lambda sums: self.trainer.strategy.reduce(sums, reduce_op="sum")  # noqa: E731
        return {pattern.format(name): value for name, value in means.compute(reduce).items()}

    def _from_all_processes(self, row: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return row
        gathered: Tensor = self.trainer.strategy.all_gather(row.to(self.device))
        return gathered

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        rewind_to_epoch_start(checkpoint)
        running = {"interval": self.interval, "epoch": self.epoch}
        checkpoint["running"] = {name: means.state_dict(self._from_all_processes) for name, means in running.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # How long training lasts is for the settings to say, also when a run is taken up again to go on for longer.
        for schedule in checkpoint["lr_schedulers"]:
            forget_length(schedule)
        for name, means in {"interval": self.interval, "epoch": self.epoch}.items():
            here = {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}
            means.load_state_dict(checkpoint["running"][name], **here)
