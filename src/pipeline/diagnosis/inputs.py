"""What a diagnosis goes by: the curves of a run, and what its best weights say of the samples. No torch in here.

The test part is looked at for copies alone: what is tuned by it would be no test any more.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.reports.evaluation_statistics import Bools, Floats, Ints
from pipeline.reports.report_data import Curves

# N samples, K classes, T numbers to predict

VALIDATION_LOSS = "val/loss"


@dataclass(frozen=True)
class SplitOutputs:
    """Samples of one part as somebody sees them: the best weights, without augmentation or dropout; or neighbours.

    answers  (N, K) probabilities, or (N, T) predicted numbers
    targets  (N,) classes, or (N, T) true numbers
    losses   (N,) by the task's measure; of numbers in units of the training part's variance
    ids      (N,) rows of the part
    """

    answers: Floats
    targets: Ints | Floats
    losses: Floats
    ids: Ints

    @property
    def is_of_classes(self) -> bool:
        return self.targets.ndim == 1

    @cached_property
    def said(self) -> Ints:
        """(N,) the likeliest class."""
        likeliest: Ints = self.answers.argmax(axis=1)
        return likeliest

    @cached_property
    def right(self) -> Bools:
        equal: Bools = self.said == self.targets
        return equal

    @cached_property
    def confidence(self) -> Floats:
        highest: Floats = self.answers.max(axis=1)
        return highest

    @cached_property
    def merits(self) -> Floats:
        """(N,) whose mean is the accuracy; of numbers the share of the training part's variance that is explained."""
        return self.right.astype(np.float64) if self.is_of_classes else 1 - self.losses.astype(np.float64)

    @property
    def merit(self) -> float:
        return float(self.merits.mean())


@dataclass(frozen=True)
class PredictorOutputs:
    """The same judge's view of training and validation samples."""

    train: SplitOutputs
    validation: SplitOutputs


@dataclass(frozen=True)
class DuplicateCount:
    """Samples of a part whose inputs stand in the training part, too.

    alike   how many
    same    how many of them with the same answer there
    size    of the part
    """

    alike: int
    same: int
    size: int

    @property
    def share(self) -> float:
        return self.alike / self.size


@dataclass(frozen=True)
class DiagnosisInputs:
    """kind        image, table, ...; empty where the data is a module of the user's own
    network     what the best weights say; None without a checkpoint, or for a module of the user's own
    neighbours  what the nearest training samples say, each of which is not asked about itself
    copies      of the validation and test part; and "train": training samples that stand there twice
    counts      (K,) training samples of each class; empty for numbers
    moved       how far the weights have travelled, as a share of the length that they set out with
    broke       what ended it, if its loss was no number
    """

    settings: dict[str, Any]
    curves: Curves
    kind: str = ""
    class_names: tuple[str, ...] = ()
    network: PredictorOutputs | None = None
    neighbours: PredictorOutputs | None = None
    copies: dict[str, DuplicateCount] = field(default_factory=dict)
    counts: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    moved: float | None = None
    broke: str | None = None

    @property
    def is_of_classes(self) -> bool:
        return len(self.class_names) > 0

    @cached_property
    def validation_losses(self) -> Floats:
        """One an epoch of validation."""
        return np.array([value for _, value in self.curves.get(VALIDATION_LOSS, [])], dtype=np.float64)

    @cached_property
    def training_losses(self) -> Floats:
        """Means over the steps between two points of logging, any penalty on the weights included."""
        return np.array([value for _, value in self.curves.get("train/loss", [])], dtype=np.float64)

    @cached_property
    def uninformed_loss(self) -> float:
        """What the best answer that is the same for all samples costs: the entropy of the classes, or the variance."""
        if not self.is_of_classes:
            return 1.0
        shares = self.counts[self.counts > 0] / self.counts.sum()
        return float(-(shares * np.log(shares)).sum())
