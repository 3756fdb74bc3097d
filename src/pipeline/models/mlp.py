"""The multilayer perceptron."""

from collections.abc import Sequence
from math import prod
from typing import ClassVar

from torch import Tensor, nn

from pipeline.constraints import PositiveInt, ProbabilityBelowOne
from pipeline.models.layers.activation import ActivationName, make_activation
from pipeline.models.layers.input_checks import refuse_text
from pipeline.spec import DataSpec, Kind

# B batch, F features, K outputs


class MLP(nn.Module):
    """Dense layers with a non-linearity between them (Rumelhart, Hinton & Williams 1986).

    `widths` are the units of each hidden layer; an empty list leaves a linear model.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("image", "table", "audio")

    def __init__(
        self,
        *,
        spec: DataSpec,
        widths: Sequence[PositiveInt],
        activation: ActivationName,
        batch_norm: bool,
        dropout: ProbabilityBelowOne,
    ) -> None:
        super().__init__()
        refuse_text(spec, model="mlp")
        nonlinearity = make_activation(activation)
        layers: list[nn.Module] = [nn.Flatten()]
        features = prod(spec.input_shape)
        for width in widths:
            layers.append(nn.Linear(features, width, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm1d(width))
            layers.append(nonlinearity())
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            features = width
        layers.append(nn.Linear(features, spec.num_outputs))
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:  # (B, *input_shape) -> (B, K)
        logits: Tensor = self.layers(inputs)
        return logits
