"""A sample's label, or any number of them in one cell, and the targets that they become."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.spec import TaskKind

# N samples, K labels


def labels_in(cell: str, separator: str | None) -> tuple[str, ...]:
    """The cell itself where nothing separates labels; else what stands between separators, which may be nothing."""
    if separator is None:
        return (cell,)
    return tuple(label for label in (each.strip() for each in cell.split(separator)) if label)


def targets_of(cells: Sequence[str], names: tuple[str, ...], separator: str | None) -> Tensor:
    """(N,) int64 numbers of the labels; with a separator (N, K) float32, 1 where the label holds and 0 where not."""
    numbers = {name: number for number, name in enumerate(names)}
    if separator is None:
        return torch.tensor([numbers[cell] for cell in cells], dtype=torch.int64)
    targets = torch.zeros(len(cells), len(names))
    for row, cell in enumerate(cells):
        for label in labels_in(cell, separator):
            targets[row, numbers[label]] = 1
    return targets


def task_of(names: tuple[str, ...], separator: str | None) -> TaskKind:
    if separator is not None:
        return "multilabel"
    return "binary" if len(names) == 2 else "multiclass"
