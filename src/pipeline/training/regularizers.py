"""Penalties on the weights, added to the loss. Biases and norms are not penalized: they do not overfit."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from pipeline.constraints import NonNegativeFloat


class Regularizer(Protocol):
    """One term of the loss that depends on the network alone."""

    def penalty(self, network: nn.Module) -> Tensor:
        """Return a scalar with gradient."""


def penalized_weights(network: nn.Module) -> Iterator[Tensor]:
    """Yield the trainable tensors with two axes or more: matrices and convolution kernels."""
    return (parameter for parameter in network.parameters() if parameter.requires_grad and parameter.ndim > 1)


def l1(network: nn.Module) -> Tensor:
    """Return sum |w|."""
    return torch.stack([weight.abs().sum() for weight in penalized_weights(network)]).sum()


def l2(network: nn.Module) -> Tensor:
    """Return sum w^2 / 2, whose gradient is w."""
    return torch.stack([weight.square().sum() for weight in penalized_weights(network)]).sum() / 2


class L1:
    """The lasso (Tibshirani 1996), which drives many weights to zero."""

    def __init__(self, *, strength: NonNegativeFloat) -> None:
        self.strength = strength

    def penalty(self, network: nn.Module) -> Tensor:
        return self.strength * l1(network)


class L2:
    """Ridge, as a term of the loss (Hoerl & Kennard 1970; Krogh & Hertz 1991).

    Under SGD this equals weight decay. Under Adam it does not: the gradient of the penalty is divided by
    Adam's running scale like any other, so weights with large gradients are hardly shrunk (Loshchilov &
    Hutter 2019). `optimizer.weight_decay` is the decoupled kind.
    """

    def __init__(self, *, strength: NonNegativeFloat) -> None:
        self.strength = strength

    def penalty(self, network: nn.Module) -> Tensor:
        return self.strength * l2(network)
