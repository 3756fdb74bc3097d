"""Inputs that stay on disk: rows are read when they are used, and memory holds a batch of them."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.errors import DataError

# N rows of the file, M rows that are asked for, C channels

MAX_IN_MEMORY_BYTES = 256 * 1024**2  # a file with no more than this is read once, and stays in memory
BLOCK_BYTES = 32 * 1024**2  # what a pass over all rows holds at a time


@dataclass(frozen=True, eq=False)
class RowFile:
    """A file of N rows and nothing else, `shape` (N, ...).

    What is known of each row, where it is known, spares a pass over all of them: `hashes` (N, 16) uint8 of its content,
    `sums` (N, C, 2) int64 of each channel's values and of their squares.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: torch.dtype
    hashes: npt.NDArray[np.uint8] | None = None
    sums: npt.NDArray[np.int64] | None = None

    @property
    def row_bytes(self) -> int:
        return prod(self.shape[1:]) * self.dtype.itemsize

    def read(self, rows: Tensor) -> Tensor:
        """Return copies (M, ...). Memory is not mapped: every page that was read would count as this process's."""
        if self._kept is not None:
            return self._kept.index_select(0, rows)
        found = torch.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        if len(rows) == 0:
            return found
        target = memoryview(found.numpy().reshape(-1).view(np.uint8).data)
        wanted, size = rows.numpy(), self.row_bytes
        neighbours = np.flatnonzero(np.diff(wanted) != 1) + 1
        for first, last in pairwise([0, *neighbours.tolist(), len(wanted)]):
            self._read_into(target[first * size : last * size], int(wanted[first]) * size)
        return found

    def _read_into(self, target: memoryview, start: int) -> None:
        done = 0
        while done < len(target):
            some = os.pread(self._file.fileno(), len(target) - done, start + done)
            if not some:
                raise DataError(f"{self.path} has become shorter while it was read. Delete it: it is made anew.")
            target[done : done + len(some)] = some
            done += len(some)

    @cached_property
    def _file(self):  # type: ignore[no-untyped-def]  # of open(), whose type depends on its mode
        return self.path.open("rb", buffering=0)

    @cached_property
    def _kept(self) -> Tensor | None:
        size = self.shape[0] * self.row_bytes
        if size > MAX_IN_MEMORY_BYTES or size == 0:
            return None
        content = np.fromfile(self.path, dtype=np.uint8, count=size)
        return torch.from_numpy(content).view(self.dtype).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class OnDiskTensor:
    """The rows `index` (M,) int64 of a file, in this order; indexed as a tensor (M, ...).

    `change` makes of what was read (m, ...) what is handed out, (m, *row_shape).
    """

    file: RowFile
    index: Tensor
    change: Callable[[Tensor], Tensor] | None = None
    row_shape: tuple[int, ...] | None = None

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.index), *(self.file.shape[1:] if self.row_shape is None else self.row_shape)))

    @property
    def dtype(self) -> torch.dtype:
        return self.file.dtype

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        return self._read(self.index[rows])

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        assert dim == 0
        return self._read(self.index.index_select(0, rows))

    def _read(self, rows: Tensor) -> Tensor:
        found = self.file.read(rows)
        return found if self.change is None else self.change(found)

    def to(self, device: torch.device) -> Tensor:
        found = torch.empty(self.shape, dtype=self.dtype, device=device)
        first = 0
        for block in self.blocks():
            found[first : first + len(block)] = block
            first += len(block)
        return found

    def blocks(self) -> Iterator[Tensor]:
        """Iterate over all rows, a few at a time."""
        for some in torch.split(self.index, max(1, BLOCK_BYTES // self.file.row_bytes)):
            yield self._read(some)


Inputs = Tensor | OnDiskTensor


def select_rows(inputs: Inputs, rows: Tensor) -> Inputs:
    """Return the rows (M,) int64: a copy of a tensor's, a view of a file's."""
    if isinstance(inputs, OnDiskTensor):
        return replace(inputs, index=inputs.index.index_select(0, rows))
    return inputs.index_select(0, rows)


def iterate_blocks(inputs: Inputs) -> Iterator[Tensor]:
    """Iterate over all rows: a tensor at once, a file a few rows at a time."""
    return inputs.blocks() if isinstance(inputs, OnDiskTensor) else iter([inputs])


def concatenate(several: Sequence[Inputs]) -> Inputs:
    """Concatenate tensors, or rows of one file."""
    stored = [each for each in several if isinstance(each, OnDiskTensor)]
    if stored:
        assert len(stored) == len(several) and len({id(each.file) for each in stored}) == 1
        return replace(stored[0], index=torch.cat([each.index for each in stored]))
    return torch.cat([each for each in several if isinstance(each, Tensor)])
