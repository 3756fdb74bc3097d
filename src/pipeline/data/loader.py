"""Loaders: batches drawn by index, in an order that is a function of the seed and the epoch alone."""

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
    """Return N rows for labels (N,), shuffled, int64: equally many of each class, give or take one.

    Rare classes are oversampled (every row equally often, give or take once); frequent classes are subsampled
    differently each epoch. A function of the labels, the seed and the epoch alone.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "balanced order", epoch))
    members = [(labels == name).nonzero().squeeze(1) for name in torch.unique(labels)]
    shares = torch.full((len(members),), len(labels) // len(members))
    # Who has one more is drawn, or the first classes would have it in every epoch.
    shares[torch.randperm(len(members), generator=generator)[: len(labels) % len(members)]] += 1
    drawn = []
    for rows, share in zip(members, shares.tolist(), strict=True):
        passes = [torch.randperm(len(rows), generator=generator) for _ in range(ceil(share / len(rows)))]
        drawn.append(rows[torch.cat(passes)[:share]])
    together = torch.cat(drawn)
    return together[torch.randperm(len(together), generator=generator)]


def chunk_bounds(*, epoch: int, start: int, steps_per_epoch: int, every: int) -> Iterator[tuple[int, int]]:
    """The runs [first, last) of steps of this epoch, from step `start` on.

    They end where the steps of the whole training, counted through all epochs, reach a multiple of `every`,
    and with the epoch. An epoch of which nothing is left has one empty run.
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
    """Consecutive optimiser steps of one epoch, steps [first_step, last_step). Free to make.

    Iterating yields for each step its micro-batches, and draws them only then. Asking for the next step tells
    the loader that the previous one is done.
    """

    def __init__(self, first_step: int, last_step: int, draw: Callable[[int], list[Batch]]) -> None:
        self.first_step = first_step
        self.last_step = last_step
        self._draw = draw

    def __len__(self) -> int:
        return self.last_step - self.first_step

    def __iter__(self) -> Iterator[list[Batch]]:
        for step in range(self.first_step, self.last_step):
            yield self._draw(step)


class TrainLoader:
    """An epoch as Chunks of optimiser steps, each of `accumulate` batches (the last may have fewer).

    Batch i of an epoch is places [i * B, (i + 1) * B) of its order, of which process r of W takes the r-th of
    W equal slices: any number of processes sees the same batches. What does not fill a batch is left out.
    With `balanced` the order is one in which all classes come equally often, else each sample comes once.

    `epoch` is asked when an iteration draws its first chunk, because whoever iterates may stop at any time.
    It has no length on purpose: Lightning then looks one Chunk ahead to know which is the epoch's last, and
    runs the epoch's end after that one, also when a resumed epoch has fewer.
    """

    def __init__(
        self,
        part: Split,
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
        self.part = part
        self.batch_size = batch_size
        self.balanced = balanced
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.accumulate = accumulate
        self.log_every_n_steps = log_every_n_steps
        self.batches_per_epoch = len(part) // batch_size
        self.steps_per_epoch = ceil(self.batches_per_epoch / accumulate)
        self.seconds_drawing = 0.0  # so far; of a GPU's work only the order to do it
        self._epoch = epoch
        self._start = (0, 0)  # (epoch, step) from which training sets out or goes on
        self._position = (0, 0)  # (epoch, steps handed out in it)

    def state_dict(self) -> dict[str, int]:
        """Return the position; it is exact whenever the step handed out last is done."""
        epoch, step = self._position
        return {"epoch": epoch, "step": step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next iteration over that epoch goes on at that step; every other epoch has all of its steps."""
        self._start = self._position = (state["epoch"], state["step"])

    def __iter__(self) -> Iterator[StepChunk]:
        epoch = self._epoch()
        start = self._start[1] if epoch == self._start[0] else 0
        self._position = (epoch, start)
        rows = self._rows(epoch)

        def draw(step: int) -> list[Batch]:
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
            yield StepChunk(first, last, draw)

    def batches(self) -> Iterator[Batch]:
        """Iterate over this epoch's batches from the first on, without a change of the position in training."""
        return (self._batch(rows) for rows in self._rows(self._epoch()))

    def _rows(self, epoch: int) -> Tensor:
        """Return the rows (batches_per_epoch, b) that this process takes in this epoch, on the data's device."""
        if self.balanced:
            order = balanced_order(self.part.targets.cpu(), seed=self.seed, epoch=epoch)
        else:
            order = epoch_order(len(self.part), seed=self.seed, epoch=epoch)
        used = order[: self.batches_per_epoch * self.batch_size]
        own = used.view(self.batches_per_epoch, self.world_size, -1)[:, self.rank]
        return own.contiguous().to(self.part.targets.device)

    def _batch(self, rows: Tensor) -> Batch:
        # index_select, because part.inputs[rows] takes four times as long for small batches.
        return Batch(self.part.inputs.index_select(0, rows), self.part.targets.index_select(0, rows), rows)


class EvaluationLoader:
    """Each sample once over all processes, in the order of the part, `batch_size` at a time in each process.

    Process r of W takes the r-th of W contiguous shares. All have as many batches, of the same sizes: where N
    is no multiple of W, the last shares are filled up with copies of the last row, which `mask` leaves out.
    Only a batch with such rows has a mask; with one process none ever has.
    """

    def __init__(self, part: Split, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.part = part
        self.batch_size = batch_size
        self.share = ceil(len(part) / world_size)
        self.first_row = rank * self.share

    def __len__(self) -> int:
        return ceil(self.share / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        end = self.first_row + self.share
        for first in range(self.first_row, end, self.batch_size):
            yield self._batch(first, min(first + self.batch_size, end))

    def _batch(self, first: int, last: int) -> Batch:
        rows = torch.arange(first, last, device=self.part.targets.device)
        if last <= len(self.part):  # of a tensor a view: nothing is copied
            return Batch(self.part.inputs[first:last], self.part.targets[first:last], rows)
        counts = rows < len(self.part)
        rows = rows.clamp(max=len(self.part) - 1)
        return Batch(self.part.inputs.index_select(0, rows), self.part.targets.index_select(0, rows), rows, counts)


# Batches as Lightning's users know them, for a LightningModule of their own. Inputs are as they are stored (uint8 for
# images). With several processes the rows that fill up an evaluation batch are handed over as well, as torch's
# DistributedSampler does.
Pair = tuple[Tensor, Tensor]


class TrainTuples:
    """A TrainLoader, batch by batch. Whoever iterates accumulates batches, so the loader must not."""

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
        """Iterate as the TrainLoader's method does."""
        return ((batch.inputs, batch.targets) for batch in self.loader.batches())

    def state_dict(self) -> dict[str, int]:
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.loader.load_state_dict(state)


class EvaluationTuples:
    """An EvaluationLoader's batches."""

    def __init__(self, loader: EvaluationLoader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Pair]:
        for batch in self.loader:
            yield batch.inputs, batch.targets
