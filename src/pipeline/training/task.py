"""What is asked of the network: its loss, what is counted while training, and how it is judged."""

from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassF1Score,
)
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError

from pipeline.constraints import ProbabilityBelowOne
from pipeline.errors import ConfigError
from pipeline.spec import DataSpec, TaskKind
from pipeline.training.class_weights import ClassWeights, weights_of_classes
from pipeline.training.defined import AUROC, CentredR2
from pipeline.training.multilabel import Multilabel

# B batch, K classes, T numbers to predict


class Task(Protocol):
    """The Learner's view of a task. `scores` are what the network returns, (B, DataSpec.num_outputs)."""

    kind: TaskKind  # what the model is to be built for
    headline: str  # the metric that a run is summed up by
    running_names: tuple[str, ...]  # the keys of `hits`

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """What training minimises: the mean over the batch, before any penalty on the weights."""

    def losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        """(B,) what is reported on data that the network does not learn from."""

    def hits(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Cheap per-sample scores (B,), averaged while training: {"accuracy": ...}."""

    def answers(self, scores: Tensor) -> Tensor:
        """What a network is judged by: a score for each class (B, K), the probabilities being their softmax; or each
        label's own probability (B, K); or the numbers (B, T)."""

    def metrics(self) -> MetricCollection:
        """Fresh metrics over (answers, targets), for one pass over a part of the data."""


def of_data(*, spec: DataSpec, label_smoothing: ProbabilityBelowOne, class_weights: ClassWeights = None) -> Task:
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
    running_names: tuple[str, ...] = ("accuracy",)

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
        self.class_weights = None if class_weights is None else weights_of_classes(class_weights, spec)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        answers, smoothing = self.answers(scores), self.label_smoothing
        if self.class_weights is None:
            return F.cross_entropy(answers, targets, label_smoothing=smoothing)
        # Not torch's `weight`, whose mean is over the weights in the batch: several processes would each have another.
        losses = F.cross_entropy(answers, targets, label_smoothing=smoothing, reduction="none")
        return (losses * self.class_weights.to(losses.device)[targets]).mean()

    def losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        # Smoothing and weights are remedies for training; what is reported on unseen data stays plain cross-entropy.
        return F.cross_entropy(self.answers(scores), targets, reduction="none")

    def hits(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"accuracy": self.answers(scores).argmax(dim=1) == targets}

    def answers(self, scores: Tensor) -> Tensor:
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

    def answers(self, scores: Tensor) -> Tensor:  # (B, 1) -> (B, 2)
        return F.pad(scores, (1, 0))


class Perceptron(Binary):
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
    running_names: tuple[str, ...] = ("mae",)

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

    def hits(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"mae": (scores - targets).abs().mean(dim=1)}

    def answers(self, scores: Tensor) -> Tensor:
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
