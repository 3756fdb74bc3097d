"""Tasks: the loss a network is trained by, its predictions, and the metrics it is evaluated by."""

import warnings
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
from pipeline.spec import Batch, DataSpec, TaskKind

# B batch, N samples, K classes or labels, T numbers to predict

# Metrics that are undefined on some data, where torchmetrics returns 0: without samples of a class there is no AUROC.
#
# `missing(targets)` says what the metric needs and these targets do not have; "" if nothing is missing.
# `undefined` says the same, after `compute()`, of all samples that were seen: the value is then NaN.


def nan_like(other: Tensor) -> Tensor:
    """Return a scalar NaN on the same device."""
    return torch.full((), float("nan"), device=other.device)


class AUROC(MulticlassAUROC):
    """AUROC of each class against the rest, averaged over the classes; every class must occur."""

    undefined = ""

    def __init__(self, class_names: Sequence[str]) -> None:
        super().__init__(len(class_names), average="macro", validate_args=False)
        self.class_names = class_names

    def missing(self, targets: Tensor) -> str:  # (N,)
        counts = torch.bincount(targets, minlength=len(self.class_names)).tolist()
        absent = [name for name, count in zip(self.class_names, counts, strict=True) if count == 0]
        return f"no sample of class {', '.join(absent)}" if absent else ""

    def compute(self) -> Tensor:  # type: ignore[override]  # as the class above declares it for its curve
        targets = dim_zero_cat(self.target)
        self.undefined = self.missing(targets)
        value: Tensor = nan_like(targets) if self.undefined else super().compute()
        return value


class MultilabelF1(MultilabelF1Score):
    """F1 averaged over the labels that hold or are predicted for some sample; for any other label it is 0 / 0."""

    undefined = ""

    def __init__(self, num_labels: int) -> None:
        super().__init__(num_labels, average="macro", validate_args=False)

    def missing(self, targets: Tensor) -> str:
        return ""  # predicted labels count, too

    def compute(self) -> Tensor:
        true_positives, false_positives, _, false_negatives = self._final_state()  # (K,) each
        total = 2 * true_positives + false_positives + false_negatives
        self.undefined = "" if total.any() else "no label holds or is predicted"
        f1 = 2 * true_positives[total > 0] / total[total > 0]
        return nan_like(total) if self.undefined else f1.mean()


class CentredR2(R2Score):
    """R2 from deviations from `centre` (T,), because sums of squares are too coarse in float32 for numbers such as 2000
    to 2020. It is undefined for numbers that do not vary.
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
        return _missing_variation(len(targets), targets.amin(dim=0), targets.amax(dim=0))

    def compute(self) -> Tensor:
        self.undefined = _missing_variation(int(self.total), self.lowest, self.highest)
        value: Tensor = nan_like(self.lowest) if self.undefined else super().compute()
        return value


def _missing_variation(count: int, lowest: Tensor, highest: Tensor) -> str:
    if count < 2:
        return f"{count} sample"
    constant = (lowest == highest).nonzero().flatten().tolist()
    return f"all samples are {lowest[constant[0]]:g}" if constant else ""


ClassWeights = Sequence[NonNegativeFloat] | Literal["balanced"] | None


def class_weight_tensor(weights: Sequence[float] | Literal["balanced"], spec: DataSpec) -> Tensor:
    """Return the weights (K,) as given, or `balanced` ones: N / (K * count) for N training samples, so that the mean
    over the samples is 1 and all classes weigh the same (King & Zeng 2001).

    Raise ConfigError for invalid weights, and for `balanced` if the samples of each class were not counted.
    """
    if isinstance(weights, str):
        if weights != "balanced":
            raise ConfigError(f"task.class_weights={weights}: expected null, balanced, or a weight for each class")
        if not spec.class_counts:
            raise ConfigError(
                f"task.class_weights=balanced: {spec.name} does not say how many samples its classes have "
                "(DataSpec.class_counts); give a weight for each class, such as task.class_weights=[1,2]"
            )
        return balanced_class_weights(spec.class_counts)
    given = ",".join(f"{weight:g}" for weight in weights)
    if len(weights) != spec.num_classes:
        ones = ",".join("1" for _ in range(spec.num_classes))
        raise ConfigError(
            f"task.class_weights=[{given}] has {len(weights)} weights, and {spec.name} has {spec.num_classes} classes: "
            f"one for each, such as [{ones}], in the order {', '.join(spec.class_names)}"
        )
    if not all(isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise ConfigError(f"task.class_weights=[{given}]: expected 0 or more for each class, and not 0 for all")
    return torch.tensor([float(weight) for weight in weights])


def balanced_class_weights(counts: Sequence[int]) -> Tensor:
    """Return weights (K,) for classes of so many samples; 0 for an empty class, which does not count among the K."""
    samples = torch.tensor(counts, dtype=torch.float64)
    present = int((samples > 0).sum())
    return torch.where(samples > 0, samples.sum() / (present * samples.clamp(min=1)), 0.0).float()


class Multilabel:
    """Multi-label classification: any of K labels, each with a score of its own (binary relevance, Tsoumakas & Katakis
    2007) and the logistic loss.

    A label is predicted where its probability is above one half.
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
        # Not the scores: torchmetrics would take a batch of scores that all lie in [0, 1] for probabilities.
        return torch.sigmoid(scores)

    def metrics(self) -> MetricCollection:
        """Return exact-match accuracy, F1 averaged over the labels that occur, and the share of labels that are wrong
        (Hamming loss)."""
        labels = self.num_labels
        return MetricCollection(
            {
                "accuracy": MultilabelExactMatch(labels, validate_args=False),
                "f1_macro": MultilabelF1(labels),
                "hamming_loss": MultilabelHammingDistance(labels, average="micro", validate_args=False),
            },
            compute_groups=False,
        )


class Task(Protocol):
    """The interface of a task for a Learner. `scores` (B, DataSpec.num_outputs) are the network's outputs.

    kind                 the kind of task that the model is built for
    headline             the metric that sums a run up
    sample_metric_names  the keys of `sample_metrics`
    """

    kind: TaskKind
    headline: str
    sample_metric_names: tuple[str, ...]

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Return the loss that training minimises: the mean over the batch, before any penalty on the weights."""

    def losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Return the losses (B,) that are reported on validation and test data."""

    def sample_metrics(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return cheap metrics of each sample (B,), averaged while training: {"accuracy": ...}."""

    def predictions(self, scores: Tensor) -> Tensor:
        """Return what metrics take: logits of classes (B, K), probabilities of labels (B, K), or numbers (B, T)."""

    def metrics(self) -> MetricCollection:
        """Return fresh metrics over (predictions, targets), for one pass over a part of the data."""


RENAMED = {"hits": "sample_metrics", "answers": "predictions", "running_names": "sample_metric_names"}


def accept_old_names(task: Task) -> None:
    """Let a user's own task go on working that was written for the earlier names of a task's methods."""
    for old, new in RENAMED.items():
        if hasattr(task, old):
            warnings.warn(f"{type(task).__name__}.{old} is now {new}", DeprecationWarning, stacklevel=2)
            setattr(task, new, getattr(task, old))


def mixed_loss(task: Task, scores: Tensor, batch: Batch) -> Tensor:
    """Return the task's mean loss; for mixed samples that of both targets, by their shares (Zhang et al. 2018).

    For cross-entropy this is the loss of the mixed target, for the squared error its gradient is.
    """
    loss = task.loss(scores, batch.targets)
    if batch.mixed is None:
        return loss
    return loss.lerp(task.loss(scores, batch.mixed.targets), batch.mixed.share)


def mixed_sample_metrics(task: Task, scores: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Return the task's metrics of each sample (B,); for mixed samples those of both targets, by their shares."""
    metrics = task.sample_metrics(scores, batch.targets)
    if batch.mixed is None:
        return metrics
    others = task.sample_metrics(scores, batch.mixed.targets)
    return {name: values.float().lerp(others[name].float(), batch.mixed.share) for name, values in metrics.items()}


def task_for_data(*, spec: DataSpec, label_smoothing: ProbabilityBelowOne, class_weights: ClassWeights = None) -> Task:
    """Return the task that fits the data.

    Raise ConfigError if there is none, or no classes whose targets could be smoothed or weighted.
    """
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
    """One of K classes: cross-entropy, with label smoothing (Szegedy et al. 2016) and class weights while training.

    `class_weights` has the weight of a sample of each class in the mean, or is `balanced`: all classes weigh the same,
    and a sample 1 on average.
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
        logits, smoothing = self.predictions(scores), self.label_smoothing
        if self.class_weights is None:
            return F.cross_entropy(logits, targets, label_smoothing=smoothing)
        # Not torch's `weight`, whose mean is over the weights in the batch: they differ between processes.
        losses = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
        return (losses * self.class_weights.to(losses.device)[targets]).mean()

    def losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        # Smoothing and weights are for training; plain cross-entropy is reported on validation and test data.
        return F.cross_entropy(self.predictions(scores), targets, reduction="none")

    def sample_metrics(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"accuracy": self.predictions(scores).argmax(dim=1) == targets}

    def predictions(self, scores: Tensor) -> Tensor:
        return scores

    def metrics(self) -> MetricCollection:
        """Return accuracy over samples, F1 and AUROC averaged over classes, and the calibration error over 15 bins of
        confidence (Guo et al. 2017)."""
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
    """One of two classes, with one score: the log-odds of the second class (Cox 1958).

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
    """The perceptron's criterion (Rosenblatt 1958): only samples on the wrong side of the boundary move it.

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

    So a learning rate means the same for all units of measurement, and predicting the mean has a loss of 1.
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
        """Return R2, and mean absolute and root mean squared error in the numbers' own units."""
        return MetricCollection(
            {"r2": CentredR2(self.mean), "mae": MeanAbsoluteError(), "rmse": MeanSquaredError(squared=False)},
            compute_groups=False,
        )


def check_scores(network: nn.Module, inputs: Tensor, spec: DataSpec) -> None:
    """Try the network on two real samples before training starts.

    Raise ConfigError if it cannot take the inputs or does not return scores of the expected shape.
    """
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            scores = network(inputs)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ConfigError(
            f"the model cannot take {spec.name}'s inputs of shape {tuple(inputs.shape)}: {error}. "
            "Its forward() gets a batch (B, channels, ...) of scaled floats"
        ) from error
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
