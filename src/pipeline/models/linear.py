"""Models with one linear layer."""

from math import prod

from torch import Tensor, nn

from pipeline.spec import DataSpec

# B batch, F features (all of an input's values in a row), C classes


class SoftmaxRegression(nn.Module):
    """Multinomial logistic regression: one score a class, linear in the input (Cox 1958)."""

    def __init__(self, *, spec: DataSpec) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(prod(spec.input_shape), spec.num_classes)

    def forward(self, inputs: Tensor) -> Tensor:  # (B, *input_shape) -> (B, C)
        logits: Tensor = self.linear(self.flatten(inputs))
        return logits
