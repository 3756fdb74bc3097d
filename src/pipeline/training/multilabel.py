"""The task of labels that exclude each other no more than they demand each other."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MultilabelExactMatch, MultilabelHammingDistance

from pipeline.constraints import ProbabilityBelowOne
from pipeline.errors import ConfigError
from pipeline.spec import DataSpec, TaskKind
from pipeline.training.defined import LabelF1

# B batch, K labels


class Multilabel:
    """Any of K labels, each by a score of its own: binary relevance (Tsoumakas & Katakis 2007), with the logistic loss.

    A label is said to hold where its probability is above one half.
    """

    tasks: ClassVar[tuple[TaskKind, ...]] = ("multilabel",)

    kind: TaskKind = "multilabel"
    headline = "accuracy"
    running_names: tuple[str, ...] = ("accuracy",)

    def __init__(self, *, spec: DataSpec, label_smoothing: ProbabilityBelowOne) -> None:
        if spec.task != "multilabel":
            raise ConfigError(
                f"task=multilabel predicts any number of labels; {spec.name} has {spec.answers} ({spec.task}): leave "
                "task out, or say what separates labels, such as "
                """'data.source.label_separator=";"'"""
            )
        self.num_labels = spec.num_classes
        self.label_smoothing = label_smoothing

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(scores, smooth)

    def losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(scores, targets, reduction="none").mean(dim=1)

    def hits(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"accuracy": ((scores > 0) == (targets > 0)).all(dim=1)}

    def answers(self, scores: Tensor) -> Tensor:  # (B, K) -> the probability of each label (B, K)
        # Not the scores: torchmetrics would take those of a batch for probabilities that lie all in [0, 1].
        return torch.sigmoid(scores)

    def metrics(self) -> MetricCollection:
        """Accuracy counts samples with all labels right; F1 is averaged over labels that occur; the Hamming loss is the
        share of labels that are wrong."""
        labels = self.num_labels
        return MetricCollection(
            {
                "accuracy": MultilabelExactMatch(labels, validate_args=False),
                "f1_macro": LabelF1(labels),
                "hamming_loss": MultilabelHammingDistance(labels, average="micro", validate_args=False),
            },
            compute_groups=False,
        )
