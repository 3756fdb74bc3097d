"""Loaders: batches in an order that is a function of the seed and the epoch alone."""

from collections.abc import Callable, Iterator
from math import ceil
from time import perf_counter

import torch
from torch import Tensor

from pipeline.data.dataset import Split
from pipeline.seeds import derive_seed
from pipeline.spec import Batch

# N samples, B global batch size, b = B / processes


def epoch_order(size: int, *, seed: int, epoch: int) -> Tensor:
    """Return a permutation (size,) int64 of the rows: a function of its arguments alone."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    return torch.randperm(size, generator=generator)


def balanced_order(labels: Tensor, *, seed: int, epoch: int) -> Tensor:
    """Return N rows (N,) int64 for labels (N,), shuffled; the classes have equally many, give or take one.

    Rare classes are oversampled (each row equally often, give or take once); frequent classes are subsampled, in each
    epoch differently. The order is a function of the labels, the seed and the epoch alone.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "balanced order", epoch))
    members = [(labels == name).nonzero().squeeze(1) for name in torch.unique(labels)]
    shares = torch.full((len(members),), len(labels) // len(members))
    # Which classes have one more is random; otherwise it would be the first ones in every epoch.
    shares[torch.randperm(len(members), generator=generator)[: len(labels) % len(members)]] += 1
    selected = []
    for rows, share in zip(members, shares.tolist(), strict=True):
        passes = [torch.randperm(len(rows), generator=generator) for _ in range(ceil(share / len(rows)))]
        selected.append(rows[torch.cat(passes)[:share]])
    order = torch.cat(selected)
    return order[torch.randperm(len(order), generator=generator)]


def chunk_bounds(*, epoch: int, start: int, steps_per_epoch: int, every: int) -> Iterator[tuple[int, int]]:
    """Yield the chunks [first, last) of this epoch's steps, from step `start` on.

    A chunk ends where the steps since the first epoch reach a multiple of `every`, and at the end of the epoch. If no
    step is left, there is one empty chunk.
    """
    before = epoch * steps_per_epoch
    first = start
    while first < steps_per_epoch:
        last = min((before + first) // every * every + every - before, steps_per_epoch)
        yield first, last
        first = last
    if start >= steps_per_epoch:
        yield start, start


class StepChunk:
    """Consecutive optimiser steps of one epoch, [first_step, last_step).

    Iteration yields the micro-batches of each step, and makes them only then. Asking for the next step tells the loader
    that the previous one is done.
    """

    def __init__(self, first_step: int, last_step: int, micro_batches: Callable[[int], list[Batch]]) -> None:
        self.first_step = first_step
        self.last_step = last_step
        self._micro_batches = micro_batches

    def __len__(self) -> int:
        return self.last_step - self.first_step

    def __iter__(self) -> Iterator[list[Batch]]:
        for step in range(self.first_step, self.last_step):
            yield self._micro_batches(step)


class TrainLoader:
    """Yields an epoch as StepChunks of optimiser steps, each of `accumulate` batches (the last may have fewer).

    Batch i of an epoch is the slice [i * B, (i + 1) * B) of its order, of which process r of W takes the r-th of W
    equal slices: any number of processes sees the same batches. Samples that do not fill a batch are left out. With
    `balanced` all classes are equally frequent, otherwise each sample comes once.

    `epoch` is called when an iteration begins. The loader has no length on purpose: Lightning then fetches one chunk
    ahead to know which is the last, and ends the epoch after that one, also when a resumed epoch has fewer.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        seed: int,
        epoch: Callable[[], int],
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        log_every_n_steps: int = 50,
        balanced: bool = False,
    ) -> None:
        self.split = split
        self.batch_size = batch_size
        self.balanced = balanced
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.accumulate = accumulate
        self.log_every_n_steps = log_every_n_steps
        self.batches_per_epoch = len(split) // batch_size
        self.steps_per_epoch = ceil(self.batches_per_epoch / accumulate)
        self.seconds_drawing = 0.0  # spent on batches so far; on a GPU only the time to enqueue the work
        self._epoch = epoch
        self._start = (0, 0)  # (epoch, step) at which training starts or resumes
        self._position = (0, 0)  # (epoch, steps that were yielded in it)

    def state_dict(self) -> dict[str, int]:
        """Return the position, which is exact whenever the last step that was yielded is done."""
        epoch, step = self._position
        return {"epoch": epoch, "step": step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume that epoch at that step in the next iteration over it; all other epochs have all of their steps."""
        self._start = self._position = (state["epoch"], state["step"])

    def __iter__(self) -> Iterator[StepChunk]:
        epoch = self._epoch()
        start = self._start[1] if epoch == self._start[0] else 0
        self._position = (epoch, start)
        rows = self._rows(epoch)

        def micro_batches(step: int) -> list[Batch]:
            self._position = (epoch, step + 1)
            first = step * self.accumulate
            last = min(first + self.accumulate, self.batches_per_epoch)
            started_at = perf_counter()
            batches = [self._batch(rows[number]) for number in range(first, last)]
            self.seconds_drawing += perf_counter() - started_at
            return batches

        bounds = chunk_bounds(
            epoch=epoch, start=start, steps_per_epoch=self.steps_per_epoch, every=self.log_every_n_steps
        )
        for first, last in bounds:
            yield StepChunk(first, last, micro_batches)

    def batches(self) -> Iterator[Batch]:
        """Iterate over all batches of this epoch, without changing the position in training."""
        return (self._batch(rows) for rows in self._rows(self._epoch()))

    def _rows(self, epoch: int) -> Tensor:
        """Return the rows (batches_per_epoch, b) that this process takes in this epoch, on the data's device."""
        if self.balanced:
            order = balanced_order(self.split.targets.cpu(), seed=self.seed, epoch=epoch)
        else:
            order = epoch_order(len(self.split), seed=self.seed, epoch=epoch)
        used = order[: self.batches_per_epoch * self.batch_size]
        own = used.view(self.batches_per_epoch, self.world_size, -1)[:, self.rank]
        return own.contiguous().to(self.split.targets.device)

    def _batch(self, rows: Tensor) -> Batch:
        # index_select, because split.inputs[rows] takes four times as long for small batches.
        return Batch(self.split.inputs.index_select(0, rows), self.split.targets.index_select(0, rows), rows)


class EvaluationLoader:
    """Yields each sample once over all processes, in the order of the split, `batch_size` at a time in each process.

    Process r of W takes the r-th of W contiguous shares. All have equally many batches, of the same sizes: where N is
    not a multiple of W, the last shares are padded with copies of the last row, and `mask` is False for them. Only a
    batch with such rows has a mask; with one process there is none.
    """

    def __init__(self, split: Split, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.split = split
        self.batch_size = batch_size
        self.share = ceil(len(split) / world_size)
        self.first_row = rank * self.share

    def __len__(self) -> int:
        return ceil(self.share / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        end = self.first_row + self.share
        for first in range(self.first_row, end, self.batch_size):
            yield self._batch(first, min(first + self.batch_size, end))

    def _batch(self, first: int, last: int) -> Batch:
        rows = torch.arange(first, last, device=self.split.targets.device)
        if last <= len(self.split):  # of a tensor a view: nothing is copied
            return Batch(self.split.inputs[first:last], self.split.targets[first:last], rows)
        counts = rows < len(self.split)
        rows = rows.clamp(max=len(self.split) - 1)
        return Batch(self.split.inputs.index_select(0, rows), self.split.targets.index_select(0, rows), rows, counts)


# (inputs, targets), for a LightningModule of a user's own. Inputs have the type in which they are stored (uint8 for
# images). With several processes an evaluation batch includes its padding rows, as in torch's DistributedSampler.
Pair = tuple[Tensor, Tensor]


class TrainTuples:
    """Yields the batches of a TrainLoader as pairs. The LightningModule accumulates them, so the loader must not."""

    def __init__(self, loader: TrainLoader) -> None:
        assert loader.accumulate == 1
        self.loader = loader

    def __len__(self) -> int:
        return self.loader.batches_per_epoch

    def __iter__(self) -> Iterator[Pair]:
        for chunk in self.loader:
            for (batch,) in chunk:
                yield batch.inputs, batch.targets

    def batches(self) -> Iterator[Pair]:
        """Iterate over all batches of this epoch, without changing the position in training."""
        return ((batch.inputs, batch.targets) for batch in self.loader.batches())

    def state_dict(self) -> dict[str, int]:
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.loader.load_state_dict(state)


class EvaluationTuples:
    """Yields the batches of an EvaluationLoader as pairs."""

    def __init__(self, loader: EvaluationLoader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Pair]:
        for batch in self.loader:
            yield batch.inputs, batch.targets
