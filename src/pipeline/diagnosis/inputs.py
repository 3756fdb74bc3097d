"""The inputs of a diagnosis: a run's curves, and the outputs of its best weights. This module needs no torch.

The test split is only searched for duplicates: tuning by its scores would spoil the test.
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
    """Predictions for samples of one split, by the best weights (without augmentation and dropout) or by neighbours.

    outputs  (N, K) probabilities, or (N, T) predicted numbers
    targets  (N,) classes, or (N, T) true numbers
    losses   (N,) the task's loss; for regression in units of the training split's variance
    ids      (N,) rows of the split
    """

    outputs: Floats
    targets: Ints | Floats
    losses: Floats
    ids: Ints

    @property
    def is_classification(self) -> bool:
        return self.targets.ndim == 1

    @cached_property
    def predicted(self) -> Ints:
        """(N,) the predicted class."""
        likeliest: Ints = self.outputs.argmax(axis=1)
        return likeliest

    @cached_property
    def correct(self) -> Bools:
        equal: Bools = self.predicted == self.targets
        return equal

    @cached_property
    def confidence(self) -> Floats:
        highest: Floats = self.outputs.max(axis=1)
        return highest

    @cached_property
    def scores(self) -> Floats:
        """(N,) values whose mean is the accuracy, or for regression the explained share of the training variance."""
        return self.correct.astype(np.float64) if self.is_classification else 1 - self.losses.astype(np.float64)

    @property
    def mean_score(self) -> float:
        return float(self.scores.mean())


@dataclass(frozen=True)
class PredictorOutputs:
    """Outputs of the same predictor for training and validation samples."""

    train: SplitOutputs
    validation: SplitOutputs


@dataclass(frozen=True)
class DuplicateCount:
    """The samples of a split whose inputs also occur in the training split.

    duplicates   their number
    same_target  how many of them have the same target there
    size         all samples of the split
    """

    duplicates: int
    same_target: int
    size: int

    @property
    def share(self) -> float:
        return self.duplicates / self.size


@dataclass(frozen=True)
class DiagnosisInputs:
    """All that the checks of a diagnosis read.

    kind           image, table, ...; empty for a data module of the user's own
    network        outputs of the best weights; None without a checkpoint, or for a module of the user's own
    neighbours     predictions by the nearest training samples, leaving the sample itself out
    duplicates     for validation and test; "train" counts training samples that occur there more than once
    counts         (K,) training samples of each class; empty for regression
    weight_change  distance of the weights from their initial values, relative to the initial norm
    nan_message    the error message, if a NaN or infinite loss ended the training
    """

    settings: dict[str, Any]
    curves: Curves
    kind: str = ""
    class_names: tuple[str, ...] = ()
    network: PredictorOutputs | None = None
    neighbours: PredictorOutputs | None = None
    duplicates: dict[str, DuplicateCount] = field(default_factory=dict)
    counts: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    weight_change: float | None = None
    nan_message: str | None = None

    @property
    def is_classification(self) -> bool:
        return len(self.class_names) > 0

    @cached_property
    def validation_losses(self) -> Floats:
        """One for each validation."""
        return np.array([value for _, value in self.curves.get(VALIDATION_LOSS, [])], dtype=np.float64)

    @cached_property
    def training_losses(self) -> Floats:
        """Means over the steps between two log records, including penalties on the weights."""
        return np.array([value for _, value in self.curves.get("train/loss", [])], dtype=np.float64)

    @cached_property
    def uninformed_loss(self) -> float:
        """The loss of the best constant prediction: the entropy of the classes, or the variance."""
        if not self.is_classification:
            return 1.0
        shares = self.counts[self.counts > 0] / self.counts.sum()
        return float(-(shares * np.log(shares)).sum())
