"""Put a loss and metrics of the user's own into a task."""

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

TRIED_ROWS = 16  # at least; more where there are more classes
PROBLEMS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError)


class CustomTask:
    """A task that is trained by another loss, or also judged by other metrics; the rest is that of `task`.

    `loss` and `metrics` take tensors as torch and torchmetrics do:

                 loss                                            metrics
    multiclass   (B, K) logits, (B,) classes                     (B, K) probabilities, (B,) classes
    binary       as of many classes; if it refuses that:         (B,) probability of the second class,
                 (B,) log-odds of the second class, (B,) 0 or 1  (B,) classes
    multilabel   (B, K) logits, (B, K) 0 or 1                    (B, K) probabilities, (B, K) 0 or 1
    regression   (B, T) both in standard deviations              (B, T) in their own units; (B,) of one number

    The loss is for training alone, as smoothed labels are: what is reported on other data stays the task's own.
    """

    def __init__(self, task: Task, *, spec: DataSpec, loss: Loss | None, metrics: Mapping[str, Metric]) -> None:
        self.task = task
        self.kind: TaskKind = task.kind
        self.headline = task.headline
        self.sample_metric_names = task.sample_metric_names
        self.own_loss, self.own_metrics = loss, metrics
        self.mean = torch.tensor(spec.target_mean)
        self.std = torch.tensor([value if value > 0 else 1.0 for value in spec.target_std])
        scores, targets = _rows(self.kind, spec)
        self.takes_classes = self.kind == "multiclass"
        if loss is not None:
            _check_trainable(loss)
            self.takes_classes |= self.kind == "binary" and _takes(loss, task.predictions(scores), targets)
            _check_loss(self.loss, scores, targets)
        for name, metric in metrics.items():
            _check_metric(name, self._as_judged(metric), task.predictions(scores), targets)

    @property
    def modes(self) -> dict[str, Mode]:
        """Return which way each metric is better, as far as it says so itself."""
        told = {name: metric.higher_is_better for name, metric in self.own_metrics.items()}
        return {name: "max" if higher else "min" for name, higher in told.items() if higher is not None}

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
        found = self.task.metrics()
        if self.own_metrics:
            found.add_metrics({name: self._as_judged(metric) for name, metric in self.own_metrics.items()})
        return found

    def _as_judged(self, metric: Metric) -> Metric:
        """Return a fresh copy that takes what a task's metrics are given."""
        return LambdaInputTransformer(
            deepcopy(metric),
            transform_pred=partial(_predicted, self.kind),
            transform_target=partial(_true, self.kind),
        )


def _predicted(kind: TaskKind, answers: Tensor) -> Tensor:
    if kind in ("multiclass", "binary"):
        probabilities = answers.softmax(dim=1)
        return probabilities[:, 1] if kind == "binary" else probabilities
    return answers.squeeze(1) if kind == "regression" and answers.shape[1] == 1 else answers


def _true(kind: TaskKind, targets: Tensor) -> Tensor:
    if kind == "multilabel":
        return targets.long()
    return targets.squeeze(1) if kind == "regression" and targets.shape[1] == 1 else targets


def _rows(kind: TaskKind, spec: DataSpec) -> tuple[Tensor, Tensor]:
    """Return scores and targets of rows made up, in which every class occurs. Draws no random numbers."""
    count = max(TRIED_ROWS, 2 * spec.num_classes)
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
            f"task.loss: {type(loss).__name__} has weights of its own, which the optimiser is not given: put them into "
            "the model, or make them buffers"
        )


def _takes(loss: Loss, answers: Tensor, targets: Tensor) -> bool:
    try:
        loss(answers, targets)
    except PROBLEMS:
        return False
    return True


def _check_loss(loss: Loss, scores: Tensor, targets: Tensor) -> None:
    """Raise ConfigError for what does not return one number that can be minimised."""
    try:
        with torch.enable_grad():
            value: Any = loss(scores.clone().requires_grad_(), targets)
    except PROBLEMS as problem:
        raise ConfigError(
            f"task.loss cannot be computed: {problem}\n"
            "  what it gets  logits (B, K) and classes (B,); docs/your-own-parts.md has a table of all tasks"
        ) from problem
    if not isinstance(value, Tensor) or value.ndim > 0 or not value.requires_grad:
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        found = "a number without a gradient" if isinstance(value, Tensor) and value.ndim == 0 else found
        raise ConfigError(
            f"task.loss returns {found}; expected one number with a gradient, such as the mean over the batch "
            "(reduction: mean)"
        )


def _check_metric(name: str, metric: Metric, answers: Tensor, targets: Tensor) -> None:
    """Raise ConfigError for a metric that cannot be computed from what the task hands it, or is not one number."""
    try:
        metric.update(answers, targets)
        value: Any = metric.compute()
    except PROBLEMS as problem:
        raise ConfigError(
            f"task.metrics.{name} cannot be computed: {problem}\n  what it gets  docs/your-own-parts.md"
        ) from problem
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ConfigError(
            f"task.metrics.{name} returns {found}; expected one number, such as the mean over classes "
            f"(task.metrics.{name}.average=macro)"
        )
