"""How the weights of a model are initialized."""

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from pipeline.constraints import NonNegativeFloat, PositiveFloat
from pipeline.errors import ConfigError

# Layers whose matrices are initialized; embeddings, norms and a model's own parameters stay as the model made them.
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Linear, *CONVOLUTIONS, nn.RNNBase, nn.MultiheadAttention)

Nonlinearity = Literal["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]


class Initialization(Protocol):
    def apply(self, model: nn.Module) -> None:
        """Initialize in place, from torch's generator. Raises ConfigError where there is no such layer."""


class Default:
    """The initialization of torch and the model: for most layers uniform in +-1 / sqrt(fan_in)."""

    def apply(self, model: nn.Module) -> None: ...


class Kaiming:
    """Normal (He et al. 2015), with a variance of gain^2 / fan_in, which keeps that of the signal through ReLUs."""

    def __init__(self, *, nonlinearity: Nonlinearity) -> None:
        self.nonlinearity = nonlinearity

    def apply(self, model: nn.Module) -> None:
        initialize_layers(model, lambda weight: nn.init.kaiming_normal_(weight, nonlinearity=self.nonlinearity))


class Xavier:
    """Uniform (Glorot & Bengio 2010), with a variance of gain^2 * 2 / (fan_in + fan_out).

    It is a compromise between the variance of signals and of gradients, made for tanh.
    """

    def __init__(self, *, gain: PositiveFloat) -> None:
        self.gain = gain

    def apply(self, model: nn.Module) -> None:
        initialize_layers(model, lambda weight: nn.init.xavier_uniform_(weight, gain=self.gain))


class Orthogonal:
    """Orthogonal rows or columns of length `gain` (Saxe et al. 2014); kernels are flattened to matrices."""

    def __init__(self, *, gain: PositiveFloat) -> None:
        self.gain = gain

    def apply(self, model: nn.Module) -> None:
        initialize_layers(model, lambda weight: nn.init.orthogonal_(weight, gain=self.gain))


class Normal:
    """The same distribution for every layer, however wide."""

    def __init__(self, *, std: NonNegativeFloat) -> None:
        self.std = std

    def apply(self, model: nn.Module) -> None:
        initialize_layers(model, lambda weight: nn.init.normal_(weight, std=self.std))


class Zeros:
    """Zeros, for models of one layer. In a deeper model all units of a layer stay equal, so it does not learn."""

    def apply(self, model: nn.Module) -> None:
        if (depth := len(weight_layers(model))) > 1:
            raise ConfigError(
                f"initialization=zeros makes all units of a layer equal, and they stay so: {type(model).__name__} has "
                f"{depth} layers and would not learn. Use initialization=default"
            )
        initialize_layers(model, nn.init.zeros_)


def weight_layers(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, LAYERS)]


def initialize_layers(model: nn.Module, fill: Callable[[Tensor], Tensor]) -> None:
    """Fill matrices and kernels by `fill`, in the order of the modules, and set biases to 0."""
    layers = weight_layers(model)
    if not layers:
        raise ConfigError(
            f"{type(model).__name__} has no layer of torch's with weights to draw: use initialization=default"
        )
    for layer in layers:
        for parameter in layer.parameters(recurse=False):
            if parameter.ndim > 1:
                # Contiguous, whatever the memory format: orthogonal_ takes nothing else.
                drawn = torch.empty_like(parameter, memory_format=torch.contiguous_format)
                fill(drawn)
                with torch.no_grad():
                    parameter.copy_(drawn)
            else:
                nn.init.zeros_(parameter)
