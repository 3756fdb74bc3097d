"""Checks of what a model takes, and layers for tokens that several models share."""

import importlib
from types import ModuleType

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.spec import DataSpec

# B batch, T tokens, D width

PAD = 0


def token_embedding(spec: DataSpec, width: int, *, model: str) -> nn.Embedding:
    """Return an embedding (B, T) -> (B, T, D), zeros for padding. Raises ConfigError where the data is not text."""
    if spec.kind != "text":
        raise ConfigError(f"model={model} takes text; {spec.name} has {spec.kind} data: use model=mlp")
    return nn.Embedding(spec.vocabulary_size, width, padding_idx=PAD)


def refuse_text(spec: DataSpec, *, model: str) -> None:
    """Raise ConfigError for text, because sums and products of token numbers mean nothing."""
    if spec.kind == "text":
        raise ConfigError(
            f"model={model} takes amounts; {spec.name} has token numbers, which are names: use model=ngrams, "
            "bag_of_words, text_cnn, gru, lstm or transformer"
        )


def masked_mean(vectors: Tensor, present: Tensor) -> Tensor:
    """Return the mean (B, D) of the vectors (B, T, D) that are `present` (B, T) bool; zeros where none is."""
    counts = present.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.where(present.unsqueeze(-1), vectors, 0).sum(dim=1) / counts


def check_images(spec: DataSpec, *, model: str) -> None:
    """Raise ConfigError where the inputs are not images."""
    refuse_text(spec, model=model)
    if len(spec.input_shape) != 3:
        raise ConfigError(
            f"model={model} needs images (channels, height, width); {spec.name} has inputs of shape "
            f"{spec.input_shape}: use model=mlp"
        )


def import_optional(name: str, *, model: str) -> ModuleType:
    """Import a package. Raises ConfigError, with what to type, where it is missing or does not fit the others."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        raise ConfigError(
            f"model={model} needs the package {problem.name}, which is not installed: python -m pip install {name}"
        ) from problem
    except (ImportError, RuntimeError) as problem:  # torchvision raises it where it was built for another torch
        raise ConfigError(
            f"model={model}: the package {name} cannot be imported ({problem}). Where torch is a build for the CPU, "
            "torchvision has to be one, too: python -m pip install --force-reinstall torchvision "
            "--index-url https://download.pytorch.org/whl/cpu"
        ) from problem
