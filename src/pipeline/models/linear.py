"""Models with one linear layer. They differ in what they are asked for, and so in their loss."""

from math import prod
from typing import ClassVar

from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.models.tokens import refuse_text
from pipeline.spec import DataSpec, Kind, TaskKind

# B batch, F features (all of an input's values in a row), C classes, T numbers to predict

FITTING = {
    "multiclass": "model=softmax_regression",
    "binary": "model=logistic_regression",
    "regression": "model=linear_regression",
}


class LinearRegression(nn.Module):
    """Numbers that are weighted sums of the input's values (Legendre 1805; Gauss 1809)."""

    kinds: ClassVar[tuple[Kind, ...]] = ("image", "table", "audio")
    tasks: ClassVar[tuple[TaskKind, ...]] = ("regression",)

    def __init__(self, *, spec: DataSpec) -> None:
        super().__init__()
        self.linear = linear_layer(spec, model="linear_regression", task="regression")

    def forward(self, inputs: Tensor) -> Tensor:  # (B, *input_shape) -> (B, T)
        numbers: Tensor = self.linear(inputs.flatten(1))
        return numbers


class LogisticRegression(nn.Module):
    """The log-odds of the second of two classes, linear in the input (Cox 1958)."""

    kinds: ClassVar[tuple[Kind, ...]] = ("image", "table", "audio")
    tasks: ClassVar[tuple[TaskKind, ...]] = ("binary",)

    def __init__(self, *, spec: DataSpec) -> None:
        super().__init__()
        self.linear = linear_layer(spec, model="logistic_regression", task="binary")

    def forward(self, inputs: Tensor) -> Tensor:  # (B, *input_shape) -> (B, 1)
        log_odds: Tensor = self.linear(inputs.flatten(1))
        return log_odds


class SoftmaxRegression(nn.Module):
    """Multinomial logistic regression: one score a class, linear in the input (Cox 1958)."""

    kinds: ClassVar[tuple[Kind, ...]] = ("image", "table", "audio")
    tasks: ClassVar[tuple[TaskKind, ...]] = ("multiclass",)

    def __init__(self, *, spec: DataSpec) -> None:
        super().__init__()
        self.linear = linear_layer(spec, model="softmax_regression", task="multiclass")

    def forward(self, inputs: Tensor) -> Tensor:  # (B, *input_shape) -> (B, C)
        logits: Tensor = self.linear(inputs.flatten(1))
        return logits


class Perceptron(nn.Module):
    """A threshold unit: the second class where a weighted sum is above 0, the first where it is not (Rosenblatt 1958).

    Its rule of learning is the loss of `task=perceptron`, which `model=perceptron` brings along.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("image", "table", "audio")
    tasks: ClassVar[tuple[TaskKind, ...]] = ("binary",)

    def __init__(self, *, spec: DataSpec) -> None:
        super().__init__()
        self.linear = linear_layer(spec, model="perceptron", task="binary")

    def forward(self, inputs: Tensor) -> Tensor:  # (B, *input_shape) -> (B, 1)
        sums: Tensor = self.linear(inputs.flatten(1))
        return sums


def linear_layer(spec: DataSpec, *, model: str, task: TaskKind) -> nn.Linear:
    """(B, F) -> (B, num_outputs). Raises ConfigError, with the model that fits, where another task is asked for."""
    refuse_text(spec, model=model)
    if spec.task != task:
        wanted = {"multiclass": "one of several classes", "binary": "one of two classes", "regression": "numbers"}[task]
        remedy = FITTING.get(spec.task, "model=mlp")
        if spec.task == "multiclass" and task == "binary":
            remedy += f", or tell one class from the rest, such as data.source.positive={spec.class_names[0]}"
        raise ConfigError(
            f"model={model} predicts {wanted}; {spec.name} has {spec.answers} ({spec.task}): use {remedy}"
        )
    return nn.Linear(prod(spec.input_shape), spec.num_outputs)
