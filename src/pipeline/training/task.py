"""What is asked of the network: its loss, what is counted while training, and how it is judged."""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassF1Score,
)

from pipeline.errors import ConfigError
from pipeline.spec import DataSpec

# B batch, K classes


class Task(Protocol):
    """The Learner's view of a task. `scores` are what the network returns, (B, K)."""

    headline: str  # the metric that a run is summed up by
    running_names: tuple[str, ...]  # the keys of `hits`

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """What training minimises: the mean over the batch, before any penalty on the weights."""

    def losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        """(B,) what is reported on data that the network does not learn from."""

    def hits(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Cheap per-sample scores (B,), averaged while training: {"accuracy": ...}."""

    def metrics(self) -> MetricCollection:
        """Fresh metrics over (scores, targets), for one pass over a part of the data."""


class Classification:
    """One of K classes: cross-entropy, with label smoothing (Szegedy et al. 2016) while training."""

    headline = "accuracy"
    running_names = ("accuracy",)

    def __init__(self, *, spec: DataSpec, label_smoothing: float) -> None:
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"task.label_smoothing={label_smoothing}: use 0 (none) or a share below 1, such as 0.1")
        if spec.num_classes < 2:
            raise ConfigError(f"{spec.name} has {spec.num_classes} class: classification needs two or more")
        self.num_classes = spec.num_classes
        self.label_smoothing = label_smoothing

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(scores, targets, label_smoothing=self.label_smoothing)

    def losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        # Smoothing is a remedy for training; what is reported on unseen data stays plain cross-entropy.
        return F.cross_entropy(scores, targets, reduction="none")

    def hits(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"accuracy": scores.argmax(dim=1) == targets}

    def metrics(self) -> MetricCollection:
        """Accuracy over samples; F1 averaged over classes; AUROC one class against the rest, averaged;
        calibration error over 15 bins of confidence (Guo et al. 2017)."""
        classes = self.num_classes
        return MetricCollection(
            {
                "accuracy": MulticlassAccuracy(classes, average="micro", validate_args=False),
                "f1_macro": MulticlassF1Score(classes, average="macro", validate_args=False),
                "auroc": MulticlassAUROC(classes, average="macro", validate_args=False),
                "calibration_error": MulticlassCalibrationError(classes, n_bins=15, validate_args=False),
            }
        )


def check_scores(network: nn.Module, inputs: Tensor, spec: DataSpec) -> None:
    """Try the network on two real samples before training starts.

    Raises ConfigError if it cannot take the inputs or does not return one score a class.
    """
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            scores = network(inputs)
    except (RuntimeError, ValueError, IndexError, TypeError) as problem:
        raise ConfigError(
            f"the model cannot take {spec.name}'s inputs of shape {tuple(inputs.shape)}: {problem}. "
            "Its forward() gets a batch (B, channels, ...) of scaled floats"
        ) from problem
    finally:
        network.train(was_training)
    expected = (len(inputs), spec.num_classes)
    if not isinstance(scores, Tensor) or tuple(scores.shape) != expected:
        found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ConfigError(
            f"the model returns {found} for {len(inputs)} samples of {spec.name}; expected {expected}, one score "
            f"for each of the {spec.num_classes} classes (a model may ask for them: def __init__(self, *, spec, ...))"
        )
