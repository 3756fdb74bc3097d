"""A Learner that goes on with smaller pieces where its batches do not fit into memory."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn

from pipeline.errors import TrainingFailed
from pipeline.spec import Batch
from pipeline.training.engine import Engine
from pipeline.training.learner import Learner, Sums

log = logging.getLogger(__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a GPU or the host ran out of memory."""
    text = str(error)
    on_the_host = "can't allocate memory" in text or "not enough memory" in text
    in_a_library = "ALLOC_FAILED" in text  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and (on_the_host or in_a_library)
    )


class HalvingLearner(Learner):
    """Halve micro-batches that do not fit into memory, from then on.

    The optimiser sees the gradient of the same samples. Batch norm takes its statistics from the smaller pieces, in
    each process.

    If one of several processes must halve, all do. They can know that only after backward, so gradients are summed
    over processes when all are computed, not meanwhile: a step takes a little longer than a Learner's.
    """

    def __init__(self, **settings: Any) -> None:
        # Without synchronised batch norm: one process may run out of memory in the middle of what the others wait for.
        super().__init__(**settings | {"sync_batchnorm": False})
        self.parts = 1  # pieces that a micro-batch is cut into

    def compute_gradients(self, micro_batches: Sequence[Batch], engine: Engine) -> list[Sums]:
        while (sums := self._try_gradients(micro_batches, engine)) is None:
            largest = max(len(batch) for batch in micro_batches)
            if self.parts >= largest:
                raise TrainingFailed(
                    "out of memory with a single sample at a time: use a smaller model, or trainer.precision=bf16-mixed"
                )
            self.parts *= 2
            log.warning("out of memory: micro-batches of %d samples from now on", -(-largest // self.parts))
        _average_over_processes(self.network)
        return sums

    def _try_gradients(self, micro_batches: Sequence[Batch], engine: Engine) -> list[Sums] | None:
        """Return None if a process ran out of memory; then everything is as before the attempt."""
        buffers = [buffer.clone() for buffer in self.network.buffers()]
        sums: list[Sums] | None = None
        try:
            with self.no_gradient_sync():
                sums = self._gradients_in_parts(micro_batches, engine)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        if not _any_process(sums is None, self.network):
            return sums
        self.network.zero_grad()
        for buffer, before in zip(self.network.buffers(), buffers, strict=True):
            buffer.copy_(before)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # the failed attempt's activations were freed with its exception
        return None

    def _gradients_in_parts(self, micro_batches: Sequence[Batch], engine: Engine) -> list[Sums]:
        step, sums = self.global_step, []
        for index, batch in enumerate(micro_batches):
            batch = self.transform(batch, step, index)
            for rows in _interleaved_rows(len(batch), self.parts):
                part = batch.rows(rows)
                weight = len(part) / len(batch) / len(micro_batches)
                sums.append(self.forward_backward(part, rows, weight, engine, step, index))
        return sums

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["parts"] = self.parts

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.parts = checkpoint.get("parts", 1)  # 1 for a run that did not halve until now


def _interleaved_rows(count: int, parts: int) -> list[slice]:
    """Return the rows of at most `parts` pieces, as equal as can be.

    A piece is every n-th row, so that together with those of the other processes it has the rows that one process
    alone would take for it.
    """
    pieces = min(parts, count)
    return [slice(first, count, pieces) for first in range(pieces)]


def _any_process(failed: bool, network: nn.Module) -> bool:
    if not _is_distributed():
        return failed
    flag = torch.tensor(int(failed), device=next(network.parameters()).device)
    distributed.all_reduce(flag, distributed.ReduceOp.MAX)
    return bool(flag.item())


def _average_over_processes(network: nn.Module) -> None:
    """Replace each gradient by its mean over the processes, as DDP would have done during backward."""
    if not _is_distributed():
        return
    gradients: list[Tensor] = [weight.grad for weight in network.parameters() if weight.grad is not None]
    flat: Any = torch.cat([gradient.reshape(-1) for gradient in gradients]).div_(distributed.get_world_size())
    distributed.all_reduce(flat)
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
