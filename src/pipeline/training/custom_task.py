"""Put the user's own loss and metrics into a task."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.wrappers import LambdaInputTransformer

from pipeline.errors import ConfigError
from pipeline.metrics import Mode
from pipeline.spec import DataSpec, TaskKind
from pipeline.training.task import Task

# B batch, K classes or labels, T numbers to predict

Loss = Callable[[Tensor, Tensor], Tensor]

TRIAL_ROWS = 16  # at least; more if there are more classes
PROBLEMS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError)


class CustomTask:
    """Train `task` with another loss, evaluate it with further metrics, and leave the rest as it is.

    `loss` and `metrics` take tensors as torch and torchmetrics do:

                 loss                                            metrics
    multiclass   (B, K) logits, (B,) classes                     (B, K) probabilities, (B,) classes
    binary       as multiclass; if the loss refuses that:        (B,) probability of the second class,
                 (B,) log-odds of the second class, (B,) 0 or 1  (B,) classes
    multilabel   (B, K) logits, (B, K) 0 or 1                    (B, K) probabilities, (B, K) 0 or 1
    regression   (B, T) both in standard deviations              (B, T) in their own units; (B,) of one number

    The loss is for training alone, as smoothed labels are: the task's own loss is reported on other data.
    """

    def __init__(self, task: Task, *, spec: DataSpec, loss: Loss | None, metrics: Mapping[str, Metric]) -> None:
        self.task = task
        self.kind: TaskKind = task.kind
        self.headline = task.headline
        self.sample_metric_names = task.sample_metric_names
        self.own_loss, self.own_metrics = loss, metrics
        self.mean = torch.tensor(spec.target_mean)
        self.std = torch.tensor([value if value > 0 else 1.0 for value in spec.target_std])
        scores, targets = _trial_rows(self.kind, spec)
        self.takes_classes = self.kind == "multiclass"
        if loss is not None:
            _check_trainable(loss)
            self.takes_classes |= self.kind == "binary" and _takes(loss, task.predictions(scores), targets)
            _check_loss(self.loss, scores, targets)
        for name, metric in metrics.items():
            _check_metric(name, self._wrapped(metric), task.predictions(scores), targets)

    @property
    def modes(self) -> dict[str, Mode]:
        """Return whether each metric is better when higher or lower, as far as it says so itself."""
        directions = {name: metric.higher_is_better for name, metric in self.own_metrics.items()}
        return {name: "max" if higher else "min" for name, higher in directions.items() if higher is not None}

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        if self.own_loss is None:
            return self.task.loss(scores, targets)
        if isinstance(self.own_loss, nn.Module):
            self.own_loss.to(scores.device)  # its buffers, such as weights of classes
        if self.takes_classes:
            return self.own_loss(self.task.predictions(scores), targets)
        if self.kind == "binary":
            return self.own_loss(scores.squeeze(1), targets.float())
        if self.kind == "multilabel":
            return self.own_loss(scores, targets)
        mean, std = self.mean.to(scores.device), self.std.to(scores.device)
        return self.own_loss((scores - mean) / std, (targets - mean) / std)

    def losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        return self.task.losses(scores, targets)

    def sample_metrics(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return self.task.sample_metrics(scores, targets)

    def predictions(self, scores: Tensor) -> Tensor:
        return self.task.predictions(scores)

    def metrics(self) -> MetricCollection:
        metrics = self.task.metrics()
        if self.own_metrics:
            metrics.add_metrics({name: self._wrapped(metric) for name, metric in self.own_metrics.items()})
        return metrics

    def _wrapped(self, metric: Metric) -> Metric:
        """Return a fresh copy that takes what a task's metrics are given."""
        return LambdaInputTransformer(
            deepcopy(metric),
            transform_pred=partial(_metric_input, self.kind),
            transform_target=partial(_metric_target, self.kind),
        )


def _metric_input(kind: TaskKind, predictions: Tensor) -> Tensor:
    if kind in ("multiclass", "binary"):
        probabilities = predictions.softmax(dim=1)
        return probabilities[:, 1] if kind == "binary" else probabilities
    return predictions.squeeze(1) if kind == "regression" and predictions.shape[1] == 1 else predictions


def _metric_target(kind: TaskKind, targets: Tensor) -> Tensor:
    if kind == "multilabel":
        return targets.long()
    return targets.squeeze(1) if kind == "regression" and targets.shape[1] == 1 else targets


def _trial_rows(kind: TaskKind, spec: DataSpec) -> tuple[Tensor, Tensor]:
    """Return scores and targets of made-up rows in which every class occurs. Draws no random numbers."""
    count = max(TRIAL_ROWS, 2 * spec.num_classes)
    outputs = 1 if kind == "binary" else len(spec.target_mean) if kind == "regression" else spec.num_classes
    scores = torch.linspace(-2, 2, count * outputs).sin().reshape(count, outputs)
    if kind == "regression":
        return scores, scores.flip(0) * torch.tensor(spec.target_std) + torch.tensor(spec.target_mean)
    if kind == "multilabel":
        return scores, ((torch.arange(count)[:, None] + torch.arange(outputs)) % 2).float()
    return scores, torch.arange(count) % spec.num_classes


def _check_trainable(loss: Loss) -> None:
    if isinstance(loss, nn.Module) and any(weight.requires_grad for weight in loss.parameters()):
        raise ConfigError(
            f"task.loss: {type(loss).__name__} has weights of its own, which the optimiser does not get: put them into "
            "the model, or make them buffers"
        )


def _takes(loss: Loss, predictions: Tensor, targets: Tensor) -> bool:
    try:
        loss(predictions, targets)
    except PROBLEMS:
        return False
    return True


def _check_loss(loss: Loss, scores: Tensor, targets: Tensor) -> None:
    """Raise ConfigError for a loss that does not return one number that can be minimised."""
    try:
        with torch.enable_grad():
            value: Any = loss(scores.clone().requires_grad_(), targets)
    except PROBLEMS as error:
        raise ConfigError(
            f"task.loss cannot be computed: {error}\n"
            "  what it gets  logits (B, K) and classes (B,); docs/your-own-parts.md has a table of all tasks"
        ) from error
    if not isinstance(value, Tensor) or value.ndim > 0 or not value.requires_grad:
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        found = "a number without a gradient" if isinstance(value, Tensor) and value.ndim == 0 else found
        raise ConfigError(
            f"task.loss returns {found}; expected one number with a gradient, such as the mean over the batch "
            "(reduction: mean)"
        )


def _check_metric(name: str, metric: Metric, predictions: Tensor, targets: Tensor) -> None:
    """Raise ConfigError for a metric that cannot be computed from what the task hands it, or is not one number."""
    try:
        metric.update(predictions, targets)
        value: Any = metric.compute()
    except PROBLEMS as error:
        raise ConfigError(
            f"task.metrics.{name} cannot be computed: {error}\n  what it gets  docs/your-own-parts.md"
        ) from error
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ConfigError(
            f"task.metrics.{name} returns {found}; expected one number, such as the mean over classes "
            f"(task.metrics.{name}.average=macro)"
        )
