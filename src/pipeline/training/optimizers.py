"""Optimisers, with arguments in the terms of the field: learning_rate, weight_decay."""

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from pipeline.constraints import NonNegativeFloat, PositiveFloat, ProbabilityBelowOne
from pipeline.errors import ConfigError

Groups = list[dict[str, Any]]


class OptimizerFactory(Protocol):
    def __call__(self, params: Iterable[nn.Parameter]) -> Optimizer: ...


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> Groups:
    """Return two groups of parameters: weights are decayed, biases and norms (one axis or none) are not.

    Shrinking a norm's scale or a bias does not make the function smoother (He et al. 2019, section 3.1).
    """
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in trainable if parameter.ndim > 1],
            "weight_decay": weight_decay,
        },
        {"params": [parameter for parameter in trainable if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def check_optimizer(make_optimizer: OptimizerFactory, name: str) -> None:
    """Raise ConfigError for an optimiser that cannot make a step from dense gradients alone, such as L-BFGS."""
    weight = nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.zeros(2, 2)
    try:
        make_optimizer([weight]).step()
    except (TypeError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"optimizer: {name} cannot train here, where a step has nothing but the gradients of one batch: {error}"
        ) from error


def adamw(
    params: Iterable[nn.Parameter],
    *,
    learning_rate: PositiveFloat,
    weight_decay: NonNegativeFloat,
    betas: tuple[ProbabilityBelowOne, ProbabilityBelowOne],
    fused: bool = True,
) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov & Hutter 2019). `fused` updates all tensors of a group in one kernel."""
    return torch.optim.AdamW(
        decay_groups(params, weight_decay), lr=learning_rate, betas=(betas[0], betas[1]), fused=fused
    )


def sgd(
    params: Iterable[nn.Parameter],
    *,
    learning_rate: PositiveFloat,
    weight_decay: NonNegativeFloat,
    momentum: ProbabilityBelowOne,
    nesterov: bool,
) -> torch.optim.SGD:
    """Return SGD, with Nesterov's momentum (Sutskever et al. 2013) unless the momentum is 0."""
    return torch.optim.SGD(
        decay_groups(params, weight_decay),
        lr=learning_rate,
        momentum=momentum,
        nesterov=nesterov and momentum > 0,
    )
