"""What is asked of the network: its loss, what is counted while training, and how it is judged."""

from collections.abc import Sequence
from math import isfinite
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassF1Score,
    MultilabelExactMatch,
    MultilabelF1Score,
    MultilabelHammingDistance,
)
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score
from torchmetrics.utilities import dim_zero_cat

from pipeline.constraints import NonNegativeFloat, ProbabilityBelowOne
from pipeline.errors import ConfigError
from pipeline.spec import DataSpec, TaskKind

# Metrics that say where they are not defined, where torchmetrics counts 0: a part that lacks a class has no AUROC.
#
# `lacks(targets)`: what the targets of a part have not that the metric needs, in words; "" where nothing is missing.
# `undefined` is the same, after `compute()`, of all that was seen: its value is then no figure.

# N samples, K classes or labels, T numbers to predict


def nan_like(like: Tensor) -> Tensor:
    return torch.full((), float("nan"), device=like.device)


class AUROC(MulticlassAUROC):
    """One class against the rest, averaged over the classes; every one must occur."""

    undefined = ""

    def __init__(self, class_names: Sequence[str]) -> None:
        super().__init__(len(class_names), average="macro", validate_args=False)
        self.class_names = class_names

    def missing(self, targets: Tensor) -> str:  # (N,)
        counts = torch.bincount(targets, minlength=len(self.class_names)).tolist()
        missing = [name for name, count in zip(self.class_names, counts, strict=True) if count == 0]
        return f"no sample of class {', '.join(missing)}" if missing else ""

    def compute(self) -> Tensor:  # type: ignore[override]  # as the class above declares it for its curve
        targets = dim_zero_cat(self.target)
        self.undefined = self.missing(targets)
        found: Tensor = nan_like(targets) if self.undefined else super().compute()
        return found


class MultilabelF1(MultilabelF1Score):
    """Averaged over the labels that hold or are said to hold; of any other it is 0 / 0."""

    undefined = ""

    def __init__(self, num_labels: int) -> None:
        super().__init__(num_labels, average="macro", validate_args=False)

    def missing(self, targets: Tensor) -> str:
        return ""  # what is said counts, too

    def compute(self) -> Tensor:
        hits, wrong, _, missed = self._final_state()  # (K,) each
        concerned = 2 * hits + wrong + missed
        self.undefined = "" if concerned.any() else "no label holds or is said to hold"
        f1 = 2 * hits[concerned > 0] / concerned[concerned > 0]
        return nan_like(concerned) if self.undefined else f1.mean()


class CentredR2(R2Score):
    """From deviations: torchmetrics sums squares, which in float32 leave nothing of numbers such as 2000 to 2020.

    Of numbers that do not vary there is no share of variance that could be explained.
    """

    centre: Tensor
    lowest: Tensor
    highest: Tensor
    undefined = ""

    def __init__(self, centre: Tensor) -> None:
        super().__init__()
        self.register_buffer("centre", centre, persistent=False)
        self.add_state("lowest", torch.full_like(centre, float("inf")), dist_reduce_fx="min")
        self.add_state("highest", torch.full_like(centre, -float("inf")), dist_reduce_fx="max")

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update(preds - self.centre, target - self.centre)
        self.lowest = torch.minimum(self.lowest, target.amin(dim=0))
        self.highest = torch.maximum(self.highest, target.amax(dim=0))

    def missing(self, targets: Tensor) -> str:  # (N, T)
        return _variation(len(targets), targets.amin(dim=0), targets.amax(dim=0))

    def compute(self) -> Tensor:
        self.undefined = _variation(int(self.total), self.lowest, self.highest)
        found: Tensor = nan_like(self.lowest) if self.undefined else super().compute()
        return found


def _variation(count: int, lowest: Tensor, highest: Tensor) -> str:
    if count < 2:
        return f"{count} sample"
    alike = (lowest == highest).nonzero().flatten().tolist()
    return f"all samples are {lowest[alike[0]]:g}" if alike else ""


# K classes, N training samples

ClassWeights = Sequence[NonNegativeFloat] | Literal["balanced"] | None


def class_weight_tensor(asked: Sequence[float] | Literal["balanced"], spec: DataSpec) -> Tensor:
    """(K,) the weights as they are given; `balanced`: N / (K * count), so that the mean over the samples is 1 and the
    classes weigh the same (King & Zeng 2001).

    Raises ConfigError for weights that are none, and where nobody has counted.
    """
    if isinstance(asked, str):
        if asked != "balanced":
            raise ConfigError(f"task.class_weights={asked}: expected null, balanced, or a weight for each class")
        if not spec.class_counts:
            raise ConfigError(
                f"task.class_weights=balanced: {spec.name} does not tell how many samples its classes have "
                "(DataSpec.class_counts); give a weight for each class, such as task.class_weights=[1,2]"
            )
        return balanced_class_weights(spec.class_counts)
    given = ",".join(f"{each:g}" for each in asked)
    if len(asked) != spec.num_classes:
        ones = ",".join("1" for _ in range(spec.num_classes))
        raise ConfigError(
            f"task.class_weights=[{given}] has {len(asked)} weights, and {spec.name} has {spec.num_classes} classes: "
            f"one for each, such as [{ones}], in the order {', '.join(spec.class_names)}"
        )
    if not all(isfinite(each) and each >= 0 for each in asked) or not any(asked):
        raise ConfigError(f"task.class_weights=[{given}]: expected 0 or more of each class, and not 0 of all")
    return torch.tensor([float(each) for each in asked])


def balanced_class_weights(counts: Sequence[int]) -> Tensor:
    """(K,) for classes of so many samples; 0 for one without any, which is not counted among the K."""
    there = torch.tensor(counts, dtype=torch.float64)
    present = int((there > 0).sum())
    return torch.where(there > 0, there.sum() / (present * there.clamp(min=1)), 0.0).float()


# B batch, K labels


class Multilabel:
    """Any of K labels, each by a score of its own: binary relevance (Tsoumakas & Katakis 2007), with the logistic loss.

    A label is said to hold where its probability is above one half.
    """

    tasks: ClassVar[tuple[TaskKind, ...]] = ("multilabel",)

    kind: TaskKind = "multilabel"
    headline = "accuracy"
    sample_metric_names: tuple[str, ...] = ("accuracy",)

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

    def sample_metrics(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"accuracy": ((scores > 0) == (targets > 0)).all(dim=1)}

    def predictions(self, scores: Tensor) -> Tensor:  # (B, K) -> the probability of each label (B, K)
        # Not the scores: torchmetrics would take those of a batch for probabilities that lie all in [0, 1].
        return torch.sigmoid(scores)

    def metrics(self) -> MetricCollection:
        """Accuracy counts samples with all labels right; F1 is averaged over labels that occur; the Hamming loss is the
        share of labels that are wrong."""
        labels = self.num_labels
        return MetricCollection(
            {
                "accuracy": MultilabelExactMatch(labels, validate_args=False),
                "f1_macro": MultilabelF1(labels),
                "hamming_loss": MultilabelHammingDistance(labels, average="micro", validate_args=False),
            },
            compute_groups=False,
        )


# B batch, K classes, T numbers to predict


class Task(Protocol):
    """The Learner's view of a task. `scores` are what the network returns, (B, DataSpec.num_outputs)."""

    kind: TaskKind  # what the model is to be built for
    headline: str  # the metric that a run is summed up by
    sample_metric_names: tuple[str, ...]  # the keys of `hits`

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """What training minimises: the mean over the batch, before any penalty on the weights."""

    def losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        """(B,) what is reported on data that the network does not learn from."""

    def sample_metrics(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Cheap per-sample scores (B,), averaged while training: {"accuracy": ...}."""

    def predictions(self, scores: Tensor) -> Tensor:
        """What a network is judged by: a score for each class (B, K), the probabilities being their softmax; or each
        label's own probability (B, K); or the numbers (B, T)."""

    def metrics(self) -> MetricCollection:
        """Fresh metrics over (answers, targets), for one pass over a part of the data."""


def task_for_data(*, spec: DataSpec, label_smoothing: ProbabilityBelowOne, class_weights: ClassWeights = None) -> Task:
    """What the data asks for. Raises ConfigError where there is no such task, or no classes to smooth or to weigh."""
    match spec.task:
        case "multiclass":
            return Classification(spec=spec, label_smoothing=label_smoothing, class_weights=class_weights)
        case "binary":
            return Binary(spec=spec, label_smoothing=label_smoothing, class_weights=class_weights)
        case "multilabel" if class_weights is not None:
            raise ConfigError(
                f"task.class_weights={class_weights} weighs classes that exclude each other; {spec.name} has labels of "
                "which any number holds: leave it out"
            )
        case "multilabel":
            return Multilabel(spec=spec, label_smoothing=label_smoothing)
        case "regression" if label_smoothing > 0:
            raise ConfigError(
                f"task.label_smoothing={label_smoothing} spreads certainty over classes; {spec.name} has "
                f"{spec.answers} to predict: leave it out"
            )
        case "regression" if class_weights is not None:
            raise ConfigError(
                f"task.class_weights={class_weights} weighs classes; {spec.name} has {spec.answers} to predict: "
                "leave it out"
            )
        case "regression":
            return Regression(spec=spec)
    raise ConfigError(
        f"{spec.name} is {spec.task}, and no task here is: name a class of yours in task._target_, or bring a "
        "LightningModule of your own as the model"
    )


class Classification:
    """One of K classes: cross-entropy, with label smoothing (Szegedy et al. 2016) and weights while training.

    `class_weights` is one a class, what each of its samples counts in the mean, or `balanced`: all classes count the
    same altogether, and a sample 1 on average.
    """

    tasks: ClassVar[tuple[TaskKind, ...]] = ("multiclass", "binary")

    kind: TaskKind = "multiclass"
    headline = "accuracy"
    sample_metric_names: tuple[str, ...] = ("accuracy",)

    def __init__(
        self, *, spec: DataSpec, label_smoothing: ProbabilityBelowOne, class_weights: ClassWeights = None
    ) -> None:
        if spec.task == "regression":
            raise ConfigError(f"{spec.name} has {spec.answers} to predict and no classes: use task=regression")
        if spec.task == "multilabel":
            raise ConfigError(f"{spec.name} has {spec.answers} to predict, not one of them: use task=multilabel")
        if spec.num_classes < 2:
            raise ConfigError(f"{spec.name} has {spec.num_classes} class: classification needs two or more")
        self.num_classes = spec.num_classes
        self.class_names = spec.class_names
        self.label_smoothing = label_smoothing
        self.class_weights = None if class_weights is None else class_weight_tensor(class_weights, spec)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        answers, smoothing = self.predictions(scores), self.label_smoothing
        if self.class_weights is None:
            return F.cross_entropy(answers, targets, label_smoothing=smoothing)
        # Not torch's `weight`, whose mean is over the weights in the batch: several processes would each have another.
        losses = F.cross_entropy(answers, targets, label_smoothing=smoothing, reduction="none")
        return (losses * self.class_weights.to(losses.device)[targets]).mean()

    def losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        # Smoothing and weights are remedies for training; what is reported on unseen data stays plain cross-entropy.
        return F.cross_entropy(self.predictions(scores), targets, reduction="none")

    def sample_metrics(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"accuracy": self.predictions(scores).argmax(dim=1) == targets}

    def predictions(self, scores: Tensor) -> Tensor:
        return scores

    def metrics(self) -> MetricCollection:
        """Accuracy over samples; F1 averaged over classes; AUROC one class against the rest, averaged;
        calibration error over 15 bins of confidence (Guo et al. 2017)."""
        classes = self.num_classes
        return MetricCollection(
            {
                "accuracy": MulticlassAccuracy(classes, average="micro", validate_args=False),
                "f1_macro": MulticlassF1Score(classes, average="macro", validate_args=False),
                "auroc": AUROC(self.class_names),
                "calibration_error": MulticlassCalibrationError(classes, n_bins=15, validate_args=False),
            }
        )


class Binary(Classification):
    """One of two classes, by one score: the log-odds of the second (Cox 1958).

    The softmax of (0, score) is (1 - sigmoid(score), sigmoid(score)), so its cross-entropy is the logistic loss.
    """

    tasks: ClassVar[tuple[TaskKind, ...]] = ("binary",)

    kind: TaskKind = "binary"

    def __init__(
        self, *, spec: DataSpec, label_smoothing: ProbabilityBelowOne, class_weights: ClassWeights = None
    ) -> None:
        super().__init__(spec=spec, label_smoothing=label_smoothing, class_weights=class_weights)
        if spec.num_classes != 2:
            names = ", ".join(spec.class_names[:3]) + (", ..." if spec.num_classes > 3 else "")
            raise ConfigError(
                f"one score tells 2 classes apart; {spec.name} has {spec.num_classes} ({names}): use "
                f"task=classification, or tell one from the rest, such as data.source.positive={spec.class_names[0]}"
            )

    def predictions(self, scores: Tensor) -> Tensor:  # (B, 1) -> (B, 2)
        return F.pad(scores, (1, 0))


class PerceptronTask(Binary):
    """Rosenblatt 1958: nothing is learned from a sample on the right side, and from any other to move towards it.

    The rule w += rate * y * x is a step down the perceptron criterion max(0, -y * score), with y = -1 or 1.
    """

    def __init__(self, *, spec: DataSpec) -> None:
        super().__init__(spec=spec, label_smoothing=0.0)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return self.losses(scores, targets).mean()

    def losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        side = 2 * targets - 1
        return F.relu(-side * scores.squeeze(1))


class Regression:
    """One or more numbers: squared error, in units of their variance in the training part.

    So a learning rate means the same whatever the numbers are measured in, and 1 is what the mean alone would cost.
    """

    tasks: ClassVar[tuple[TaskKind, ...]] = ("regression",)

    kind: TaskKind = "regression"
    headline = "r2"
    sample_metric_names: tuple[str, ...] = ("mae",)

    def __init__(self, *, spec: DataSpec) -> None:
        if spec.task != "regression":
            raise ConfigError(
                f"task=regression predicts numbers; {spec.name} has {spec.num_classes} classes: leave task out"
            )
        self.mean = torch.tensor(spec.target_mean)
        self.std = torch.tensor([value if value > 0 else 1.0 for value in spec.target_std])

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return self.losses(scores, targets).mean()

    def losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        return ((scores - targets) / self.std.to(scores.device)).square().mean(dim=1)

    def sample_metrics(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"mae": (scores - targets).abs().mean(dim=1)}

    def predictions(self, scores: Tensor) -> Tensor:
        return scores

    def metrics(self) -> MetricCollection:
        """In the numbers' own units, but for R2, the share of their variance that is explained."""
        return MetricCollection(
            {"r2": CentredR2(self.mean), "mae": MeanAbsoluteError(), "rmse": MeanSquaredError(squared=False)},
            compute_groups=False,
        )


def check_scores(network: nn.Module, inputs: Tensor, spec: DataSpec) -> None:
    """Try the network on two real samples before training starts.

    Raises ConfigError if it cannot take the inputs or does not return the scores that are asked for.
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
    expected = (len(inputs), spec.num_outputs)
    if not isinstance(scores, Tensor) or tuple(scores.shape) != expected:
        found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        wanted = {"regression": "a column for each number", "binary": "one score to tell the 2 classes apart"}
        meant = wanted.get(spec.task, f"one score for each of the {spec.num_classes} classes")
        raise ConfigError(
            f"the model returns {found} for {len(inputs)} samples of {spec.name}; expected {expected}, {meant} "
            "(a model may ask for spec.num_outputs: def __init__(self, *, spec, ...))"
        )
