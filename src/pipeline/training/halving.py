"""A Learner that goes on where there is not memory enough for its batches."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn

from pipeline.errors import TrainingFailed
from pipeline.spec import Batch
from pipeline.training.engine import Engine
from pipeline.training.learner import Learner, Sums


def is_out_of_memory(problem: BaseException) -> bool:
    """Of a GPU or of the host."""
    text = str(problem)
    on_the_host = "can't allocate memory" in text or "not enough memory" in text
    in_a_library = "ALLOC_FAILED" in text  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED
    return isinstance(problem, torch.OutOfMemoryError | MemoryError) or (
        isinstance(problem, RuntimeError) and (on_the_host or in_a_library)
    )


log = logging.getLogger(__name__)


class HalvingLearner(Learner):
    """Where memory does not suffice for a micro-batch, its halves one after the other, from then on: the optimiser
    sees the gradient of the same samples. (Batch norm takes its statistics from the smaller parts, of each process.)

    Of several processes all halve when one of them must. They can know that only after backward, so gradients are
    summed up when all is computed, not while: a step takes a little longer than a Learner's.
    """

    def __init__(self, **settings: Any) -> None:
        # Not where one process may run out of memory in the middle of what the others wait for.
        super().__init__(**settings | {"sync_batchnorm": False})
        self.parts = 1  # pieces that a micro-batch is cut into

    def compute_gradients(self, micro_batches: Sequence[Batch], steps: Engine) -> list[Sums]:
        while (sums := self._tried(micro_batches, steps)) is None:
            largest = max(len(batch) for batch in micro_batches)
            if self.parts >= largest:
                raise TrainingFailed(
                    "out of memory with a single sample at a time: use a smaller model, or trainer.precision=bf16-mixed"
                )
            self.parts *= 2
            log.warning("out of memory: micro-batches of %d samples from now on", -(-largest // self.parts))
        _average_over_processes(self.network)
        return sums

    def _tried(self, micro_batches: Sequence[Batch], steps: Engine) -> list[Sums] | None:
        """None where a process had not memory enough; then everything is as if nothing had been tried."""
        buffers = [buffer.clone() for buffer in self.network.buffers()]
        sums: list[Sums] | None = None
        try:
            with self.without_synchronisation():
                sums = self._in_parts(micro_batches, steps)
        except Exception as problem:
            if not is_out_of_memory(problem):
                raise
        if not _any_process(sums is None, self.network):
            return sums
        self.network.zero_grad()
        for buffer, before in zip(self.network.buffers(), buffers, strict=True):
            buffer.copy_(before)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # the failed attempt's activations went with its exception
        return None

    def _in_parts(self, micro_batches: Sequence[Batch], steps: Engine) -> list[Sums]:
        step, found = self.global_step, []
        for index, batch in enumerate(micro_batches):
            batch = self.augmented(batch, step, index)
            for rows in _interleaved_rows(len(batch), self.parts):
                part = batch.rows(rows)
                share = len(part) / len(batch) / len(micro_batches)
                found.append(self.forward_backward(part, rows, share, steps, step, index))
        return found

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["parts"] = self.parts

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.parts = checkpoint.get("parts", 1)  # 1 of a run that did not halve until now


def _interleaved_rows(count: int, parts: int) -> list[slice]:
    """Rows of at most `parts` pieces, as equal as can be; every n-th row, so that together with those of the other
    processes a piece has the rows that one process alone would take for it."""
    pieces = min(parts, count)
    return [slice(first, count, pieces) for first in range(pieces)]


def _any_process(failed: bool, network: nn.Module) -> bool:
    if not _is_distributed():
        return failed
    heard = torch.tensor(int(failed), device=next(network.parameters()).device)
    distributed.all_reduce(heard, distributed.ReduceOp.MAX)
    return bool(heard.item())


def _average_over_processes(network: nn.Module) -> None:
    """The mean of each gradient over the processes, as DDP would have made it during backward."""
    if not _is_distributed():
        return
    gradients: list[Tensor] = [each.grad for each in network.parameters() if each.grad is not None]
    together: Any = torch.cat([gradient.reshape(-1) for gradient in gradients]).div_(distributed.get_world_size())
    distributed.all_reduce(together)
    for gradient, mean in zip(gradients, together.split([each.numel() for each in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
