"""What models of text share: they take token numbers (B, T), of which 0 is padding and must not count."""

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.spec import DataSpec

# B batch, T tokens, D width

PAD = 0


def embedding(spec: DataSpec, width: int, *, model: str) -> nn.Embedding:
    """A vector for each token, zeros for padding. Raises ConfigError where the data is no text."""
    if spec.kind != "text":
        raise ConfigError(f"model={model} takes text; {spec.name} has {spec.kind} data: use model=mlp")
    return nn.Embedding(spec.vocabulary_size, width, padding_idx=PAD)


def refuse_text(spec: DataSpec, *, model: str) -> None:
    """Raises ConfigError: sums and products of token numbers mean nothing."""
    if spec.kind == "text":
        raise ConfigError(
            f"model={model} takes amounts; {spec.name} has token numbers, which are names: use model=ngrams, "
            "bag_of_words, text_cnn, gru, lstm or transformer"
        )


def mean_of_present(vectors: Tensor, present: Tensor) -> Tensor:
    """(B, T, D), (B, T) bool -> (B, D), zeros where nothing is present."""
    counts = present.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.where(present.unsqueeze(-1), vectors, 0).sum(dim=1) / counts
