"""The gradient of a step when there may not be memory enough for its batches."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn

from pipeline.errors import TrainingFailed
from pipeline.spec import Batch

log = logging.getLogger(__name__)

Sums = tuple[dict[str, Tensor], int]


class Work(Protocol):
    """What is done with the micro-batches of one step."""

    def prepare(self, batch: Batch, index: int) -> Batch:
        """On the device, augmented."""

    def compute(self, batch: Batch, share: float, index: int, rows: slice) -> Sums:
        """Forward and backward of a mean loss that counts `share` in the step's; of the micro-batch these rows.

        Returns sums over its samples, for the running means, and their number.
        """


class Gradients(Protocol):
    """`parts` is how many pieces a micro-batch is cut into; it belongs into a checkpoint."""

    parts: int

    def of(self, micro_batches: Sequence[Batch], work: Work) -> list[Sums]:
        """Add up the gradient of the mean over all micro-batches and over all processes; what `compute` returned."""


class Together:
    """Each micro-batch whole; the last one's backward also sums over the processes."""

    def __init__(self, unsynchronised: Callable[[], AbstractContextManager[None]]) -> None:
        self.unsynchronised = unsynchronised
        self.parts = 1

    def of(self, micro_batches: Sequence[Batch], work: Work) -> list[Sums]:
        share, sums = 1 / len(micro_batches), []
        for index, batch in enumerate(micro_batches):
            prepared = work.prepare(batch, index)
            with nullcontext() if index == len(micro_batches) - 1 else self.unsynchronised():
                sums.append(work.compute(prepared, share, index, slice(0, len(prepared))))
        return sums


class Halving:
    """Where memory does not suffice for a micro-batch, its halves one after the other, from then on: the optimiser
    sees the gradient of the same samples. (Batch norm takes its statistics from the smaller parts, of each process.)

    Of several processes all halve when one of them must. They can know that only after backward, so gradients are
    summed up when all is computed, not while: a step takes a little longer than without this.
    """

    def __init__(self, network: nn.Module, unsynchronised: Callable[[], AbstractContextManager[None]]) -> None:
        self.network = network
        self.unsynchronised = unsynchronised
        self.parts = 1

    def of(self, micro_batches: Sequence[Batch], work: Work) -> list[Sums]:
        while (sums := self._tried(micro_batches, work)) is None:
            largest = max(len(batch) for batch in micro_batches)
            if self.parts >= largest:
                raise TrainingFailed(
                    "out of memory with a single sample at a time: use a smaller model, or trainer.precision=bf16-mixed"
                )
            self.parts *= 2
            log.warning("out of memory: micro-batches of %d samples from now on", -(-largest // self.parts))
        _average_over_processes(self.network)
        return sums

    def _tried(self, micro_batches: Sequence[Batch], work: Work) -> list[Sums] | None:
        """None where a process had not memory enough; then everything is as if nothing had been tried."""
        buffers = [buffer.clone() for buffer in self.network.buffers()]
        sums: list[Sums] | None = None
        try:
            with self.unsynchronised():
                sums = list(self._computed(micro_batches, work))
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

    def _computed(self, micro_batches: Sequence[Batch], work: Work) -> Iterator[Sums]:
        for index, batch in enumerate(micro_batches):
            whole = work.prepare(batch, index)
            for rows in _interleaved(len(whole), self.parts):
                piece = whole.rows(rows)
                share = len(piece) / len(whole) / len(micro_batches)
                yield work.compute(piece, share, index, rows)


def _interleaved(count: int, parts: int) -> list[slice]:
    """Rows of at most `parts` pieces, as equal as can be; every n-th row, so that together with those of the other
    processes a piece has the rows that one process alone would take for it."""
    pieces = min(parts, count)
    return [slice(first, count, pieces) for first in range(pieces)]


def is_out_of_memory(problem: BaseException) -> bool:
    """Of a GPU or of the host."""
    text = str(problem)
    on_the_host = "can't allocate memory" in text or "not enough memory" in text
    in_a_library = "ALLOC_FAILED" in text  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED
    return isinstance(problem, torch.OutOfMemoryError | MemoryError) or (
        isinstance(problem, RuntimeError) and (on_the_host or in_a_library)
    )


def _any_process(failed: bool, network: nn.Module) -> bool:
    if not _several():
        return failed
    heard = torch.tensor(int(failed), device=next(network.parameters()).device)
    distributed.all_reduce(heard, distributed.ReduceOp.MAX)
    return bool(heard.item())


def _average_over_processes(network: nn.Module) -> None:
    """The mean of each gradient over the processes, as DDP would have made it during backward."""
    if not _several():
        return
    gradients: list[Tensor] = [each.grad for each in network.parameters() if each.grad is not None]
    together: Any = torch.cat([gradient.reshape(-1) for gradient in gradients]).div_(distributed.get_world_size())
    distributed.all_reduce(together)
    for gradient, mean in zip(gradients, together.split([each.numel() for each in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
