"""Activation functions by name."""

import importlib
from collections.abc import Callable
from typing import Annotated

from torch import nn

from pipeline.constraints import KeyOf, NameIn
from pipeline.errors import ConfigError

Activation = Callable[[], nn.Module]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "hardswish": nn.Hardswish,
    "identity": nn.Identity,
}

ActivationName = Annotated[str, KeyOf(ACTIVATIONS)] | Annotated[str, NameIn("torch.nn")]


def make_activation(name: str) -> Activation:
    """Return a class of modules, by short name (`relu`) or by path in `torch.nn` (`torch.nn.Mish`).

    Raises ConfigError for a name that is neither.
    """
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    module_name, _, class_name = name.rpartition(".")
    # Only torch.nn: a name in a plain string is not covered by the allow-list that guards `_target_`.
    if module_name == "torch.nn" or module_name.startswith("torch.nn."):
        module = getattr(importlib.import_module(module_name), class_name, None)
        if isinstance(module, type) and issubclass(module, nn.Module):
            return module
    raise ConfigError(
        f"activation {name!r} is not known: use one of {', '.join(ACTIVATIONS)}, or a class of torch.nn such as "
        "torch.nn.Mish"
    )
