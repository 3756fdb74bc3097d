"""How a column of a table becomes inputs of a network, once what is fitted to the training rows is known."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

# N rows, C columns of inputs

OTHER = "any other"


class Encoded(Protocol):
    """How column number `place` of the table becomes inputs of these names."""

    @property
    def name(self) -> str: ...

    @property
    def place(self) -> int: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def categories(self) -> tuple[tuple[str, ...], ...]:
        """As in DataSpec, for each of `names`."""
        ...

    @property
    def told(self) -> str:
        """What was made of the column, for a person."""
        ...

    def __call__(self, values: Tensor) -> Tensor:
        """(N,) -> (N, C)"""
        ...


@dataclass(frozen=True)
class Amount:
    """Gaps are filled with `median`; where `marks_gaps`, a second input says where they are."""

    name: str
    place: int
    kind: str  # as it is told: number, or date, day first
    median: float
    marks_gaps: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, f"{self.name} missing") if self.marks_gaps else (self.name,)

    @property
    def categories(self) -> tuple[tuple[str, ...], ...]:
        return ((),) * len(self.names)

    @property
    def told(self) -> str:
        return f"{self.name} ({self.kind}{', gaps marked' if self.marks_gaps else ''})"

    def __call__(self, values: Tensor) -> Tensor:
        gaps = values.isnan()
        filled = values.masked_fill(gaps, self.median)
        return torch.stack([filled, gaps.float()] if self.marks_gaps else [filled], dim=1)


@dataclass(frozen=True)
class OneHot:
    """A 0 or 1 for each of the levels that the training rows show; 0 in all for others."""

    name: str
    place: int
    levels: tuple[tuple[int, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.name}={text}" for _, text in self.levels)

    @property
    def categories(self) -> tuple[tuple[str, ...], ...]:
        return ((),) * len(self.levels)

    @property
    def told(self) -> str:
        return f"{self.name} ({len(self.levels)} names)"

    def __call__(self, values: Tensor) -> Tensor:
        return (values[:, None] == values.new_tensor([number for number, _ in self.levels])).float()


@dataclass(frozen=True)
class Numbered:
    """Each of the levels gets a number, from 1; 0 is for those that too few training rows show."""

    name: str
    place: int
    levels: tuple[tuple[int, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def categories(self) -> tuple[tuple[str, ...], ...]:
        return ((OTHER, *(text for _, text in self.levels)),)

    @property
    def told(self) -> str:
        return f"{self.name} ({len(self.levels):,} names, embedded)"

    @cached_property
    def kept(self) -> Tensor:
        """(L,) the table's numbers of the levels, ascending."""
        return torch.tensor([float(number) for number, _ in self.levels])

    def __call__(self, values: Tensor) -> Tensor:
        found = torch.searchsorted(self.kept, values.contiguous()).clamp(max=len(self.kept) - 1)
        return torch.where(self.kept[found] == values, found + 1, 0).float()[:, None]
