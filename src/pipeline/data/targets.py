"""Targets: how labels are encoded, and which targets are invalid."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.errors import DataError
from pipeline.spec import TaskKind

# N samples, K labels, T numbers


def split_labels(cell: str, separator: str | None) -> tuple[str, ...]:
    """Return the labels in a cell: one without a separator, any number with one."""
    if separator is None:
        return (cell,)
    return tuple(label for label in map(str.strip, cell.split(separator)) if label)


def encode_labels(cells: Sequence[str], names: tuple[str, ...], separator: str | None) -> Tensor:
    """Return class numbers (N,) int64; with a separator (N, K) float32, 1 for each label of a sample, else 0."""
    numbers = {name: number for number, name in enumerate(names)}
    if separator is None:
        return torch.tensor([numbers[cell] for cell in cells], dtype=torch.int64)
    targets = torch.zeros(len(cells), len(names))
    for row, cell in enumerate(cells):
        for label in split_labels(cell, separator):
            targets[row, numbers[label]] = 1
    return targets


def classification_task(names: tuple[str, ...], separator: str | None) -> TaskKind:
    if separator is not None:
        return "multilabel"
    return "binary" if len(names) == 2 else "multiclass"


def check_regression_targets(targets: Tensor, *, where: str) -> None:
    """Raise DataError where a target (N, T) is not finite, or where there is no variance because N is 1."""
    if len(targets) < 2:
        raise DataError(f"{where} has 1 sample: regression is evaluated on at least two. Change the source's split.")
    wrong = ~targets.isfinite().all(dim=1)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise DataError(f"{where}: row {row} has the target {targets[row].tolist()}, expected finite numbers.")


def check_multilabel_targets(targets: Tensor, *, num_labels: int, where: str) -> None:
    """Raise DataError where targets are not (N, K) float32 of 0 and 1."""
    if targets.ndim != 2 or targets.shape[1] != num_labels or not targets.is_floating_point():
        raise DataError(
            f"{where} has targets {tuple(targets.shape)} {targets.dtype}, expected ({len(targets)}, {num_labels}) "
            "float32: a column for each label."
        )
    wrong = ((targets != 0) & (targets != 1)).any(dim=1)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise DataError(f"{where}: row {row} has the labels {targets[row].tolist()}, expected only 0 and 1.")


def check_class_labels(labels: Tensor, *, num_classes: int, where: str) -> None:
    """Raise DataError where one of the labels (N,), N > 0, is not a class number."""
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= num_classes:
        wrong = lowest if lowest < 0 else highest
        row = int((labels == wrong).nonzero()[0])
        raise DataError(
            f"{where}: row {row} has the label {wrong}, expected 0 to {num_classes - 1}. "
            "Correct the labels, or name every class in the source's class_names."
        )
