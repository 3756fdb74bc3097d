"""Models with one linear layer, for different tasks."""

from math import prod
from typing import ClassVar

from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.models.layers.input_checks import refuse_text
from pipeline.spec import DataSpec, Kind, TaskKind

# B batch, F features (all of an input's values in a row), K outputs: classes, one score, or numbers to predict

MODEL_FOR_TASK = {
    "multiclass": "model=softmax_regression",
    "binary": "model=logistic_regression",
    "regression": "model=linear_regression",
}
PREDICTS = {"multiclass": "one of several classes", "binary": "one of two classes", "regression": "numbers"}


class Linear(nn.Module):
    """Weighted sums of the input's values. Raises ConfigError, with the model that fits, for another kind of task."""

    kinds: ClassVar[tuple[Kind, ...]] = ("image", "table", "audio")
    tasks: ClassVar[tuple[TaskKind, ...]]
    option: ClassVar[str]  # its name on the command line

    def __init__(self, *, spec: DataSpec) -> None:
        super().__init__()
        refuse_text(spec, model=self.option)
        (task,) = self.tasks
        if spec.task != task:
            remedy = MODEL_FOR_TASK.get(spec.task, "model=mlp")
            if spec.task == "multiclass" and task == "binary":
                remedy += f", or tell one class from the rest, such as data.source.positive={spec.class_names[0]}"
            raise ConfigError(
                f"model={self.option} predicts {PREDICTS[task]}; {spec.name} has {spec.answers} ({spec.task}): "
                f"use {remedy}"
            )
        self.linear = nn.Linear(prod(spec.input_shape), spec.num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:  # (B, *input_shape) -> (B, K)
        outputs: Tensor = self.linear(inputs.flatten(1))
        return outputs


class LinearRegression(Linear):
    """Numbers that are weighted sums of the input's values (Legendre 1805; Gauss 1809)."""

    tasks = ("regression",)
    option = "linear_regression"


class LogisticRegression(Linear):
    """The log-odds of the second of two classes, linear in the input (Cox 1958)."""

    tasks = ("binary",)
    option = "logistic_regression"


class SoftmaxRegression(Linear):
    """Multinomial logistic regression: one score a class, linear in the input (Cox 1958)."""

    tasks = ("multiclass",)
    option = "softmax_regression"


class Perceptron(Linear):
    """A threshold unit: the second class where a weighted sum is above 0, the first where it is not (Rosenblatt 1958).

    Its rule of learning is the loss of `task=perceptron`, which `model=perceptron` brings along.
    """

    tasks = ("binary",)
    option = "perceptron"
