"""What a data set is: three parts, and a class that knows how to load them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from pipeline.errors import DataError
from pipeline.spec import Kind, TaskKind


@dataclass(frozen=True)
class Part:
    """N samples: inputs (N, *input_shape) in the type they are stored in, targets (N,) int64 classes."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def rows(self, index: Tensor) -> "Part":
        """A copy of the rows named by `index` (M,) int64, in its order."""
        return Part(self.inputs.index_select(0, index), self.targets.index_select(0, index))

    def to(self, device: torch.device) -> "Part":
        return Part(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Parts:
    """A whole data set, split once and for all. `test` is for the final evaluation alone."""

    name: str
    kind: Kind
    task: TaskKind
    class_names: tuple[str, ...]
    train: Part
    validation: Part
    test: Part

    def by_name(self) -> dict[str, Part]:
        return {"train": self.train, "validation": self.validation, "test": self.test}


class Source(Protocol):
    """Where a data set comes from. Its constructor takes hyperparameters alone and touches no file."""

    def load(self, root: Path | None) -> Parts:
        """`root`: the user's own folder with the files; None: what is installed, cached or downloaded.

        Raises DataError when the data is missing or is not what it should be.
        """
        ...


def check_labels(labels: Tensor, *, num_classes: int, where: str) -> None:
    """Raises DataError when a label (of a non-empty tensor) is no class number; `where` names its home."""
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= num_classes:
        wrong = lowest if lowest < 0 else highest
        row = int((labels == wrong).nonzero()[0])
        raise DataError(
            f"{where}: row {row} has the label {wrong}, expected 0 to {num_classes - 1}. "
            "Correct the labels, or name every class in the source's class_names."
        )
