"""Inputs that stay on disk: rows are read when they are used, so memory holds only a batch."""

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

# N rows of the file, M rows that are read, C channels

MAX_IN_MEMORY_BYTES = 256 * 1024**2  # a file up to this size is read once, and stays in memory
BLOCK_BYTES = 32 * 1024**2  # memory of a pass over all rows


@dataclass(frozen=True, eq=False)
class RowFile:
    """A file that holds an array of N rows, without a header.

    shape   (N, ...)
    hashes  (N, 16) uint8 of each row's content, or None
    sums    (N, C, 2) int64: the sum of each channel's values and of their squares, or None

    Hashes and sums save a pass over all rows.
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
        """Return copies of `rows` (M,), (M, ...).

        The file is not mapped into memory, because each page that was read would count as memory of this process.
        """
        if self._content is not None:
            return self._content.index_select(0, rows)
        result = torch.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        if len(rows) == 0:
            return result
        target = memoryview(result.numpy().reshape(-1).view(np.uint8).data)
        numbers, size = rows.numpy(), self.row_bytes
        # Consecutive rows are read at once.
        starts = np.flatnonzero(np.diff(numbers) != 1) + 1
        for first, last in pairwise([0, *starts.tolist(), len(numbers)]):
            self._read_into(target[first * size : last * size], int(numbers[first]) * size)
        return result

    def _read_into(self, target: memoryview, start: int) -> None:
        done = 0
        while done < len(target):
            content = os.pread(self._file.fileno(), len(target) - done, start + done)
            if not content:
                raise DataError(
                    f"{self.path} became shorter while it was read. Delete it; the next run makes it again."
                )
            target[done : done + len(content)] = content
            done += len(content)

    @cached_property
    def _file(self):  # type: ignore[no-untyped-def]  # of open(), whose type depends on its mode
        return self.path.open("rb", buffering=0)

    @cached_property
    def _content(self) -> Tensor | None:
        size = self.shape[0] * self.row_bytes
        if size > MAX_IN_MEMORY_BYTES or size == 0:
            return None
        content = np.fromfile(self.path, dtype=np.uint8, count=size)
        return torch.from_numpy(content).view(self.dtype).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class OnDiskTensor:
    """The rows `index` (M,) int64 of a file, in this order; it is indexed like a tensor (M, ...).

    `transform`, if given, maps the rows of the file (m, ...) to (m, *row_shape).
    """

    file: RowFile
    index: Tensor
    transform: Callable[[Tensor], Tensor] | None = None
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
        values = self.file.read(rows)
        return values if self.transform is None else self.transform(values)

    def to(self, device: torch.device) -> Tensor:
        result = torch.empty(self.shape, dtype=self.dtype, device=device)
        first = 0
        for block in self.blocks():
            result[first : first + len(block)] = block
            first += len(block)
        return result

    def blocks(self) -> Iterator[Tensor]:
        """Iterate over all rows, some at a time."""
        for rows in torch.split(self.index, max(1, BLOCK_BYTES // self.file.row_bytes)):
            yield self._read(rows)


Inputs = Tensor | OnDiskTensor


def select_rows(inputs: Inputs, rows: Tensor) -> Inputs:
    """Return the rows (M,) int64: copies of a tensor's rows, a view of a file's."""
    if isinstance(inputs, OnDiskTensor):
        return replace(inputs, index=inputs.index.index_select(0, rows))
    return inputs.index_select(0, rows)


def iterate_blocks(inputs: Inputs) -> Iterator[Tensor]:
    """Iterate over all rows: a tensor at once, a file some rows at a time."""
    return inputs.blocks() if isinstance(inputs, OnDiskTensor) else iter([inputs])


def concatenate(several: Sequence[Inputs]) -> Inputs:
    """Concatenate tensors, or rows of one file."""
    on_disk = [inputs for inputs in several if isinstance(inputs, OnDiskTensor)]
    if on_disk:
        assert len(on_disk) == len(several) and len({id(inputs.file) for inputs in on_disk}) == 1
        return replace(on_disk[0], index=torch.cat([inputs.index for inputs in on_disk]))
    return torch.cat([inputs for inputs in several if isinstance(inputs, Tensor)])
