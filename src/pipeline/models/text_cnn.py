"""Convolutions over words."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.constraints import PositiveInt, ProbabilityBelowOne, Sizes
from pipeline.models.layers.input_checks import PAD, token_embedding
from pipeline.spec import DataSpec, Kind

# B batch, T tokens, D width, C channels, K outputs


class TextCNN(nn.Module):
    """The maximum of each filter over all windows of several widths (Kim 2014, CNN-rand).

    There are `channels` filters for each of `windows` (tokens), and dropout on word vectors and before the last layer.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("text",)

    def __init__(
        self,
        *,
        spec: DataSpec,
        width: PositiveInt,
        channels: PositiveInt,
        windows: Sizes,
        embedding_dropout: ProbabilityBelowOne,
        dropout: ProbabilityBelowOne,
    ) -> None:
        super().__init__()
        self.embedding = token_embedding(spec, width, model="text_cnn")
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, channels, window) for window in windows)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(channels * len(windows), spec.num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:  # (B, T) -> (B, K)
        tokens = inputs.long()
        vectors = self.embedding_dropout(self.embedding(tokens)).transpose(1, 2)  # (B, D, T)
        present = tokens != PAD
        strongest = [_max_over_windows(convolution, vectors, present) for convolution in self.convolutions]
        scores: Tensor = self.output(self.dropout(torch.cat(strongest, dim=1)))
        return scores


def _max_over_windows(convolution: nn.Module, vectors: Tensor, present: Tensor) -> Tensor:
    """Return (B, C): the maximum of (B, D, T) over all windows with a token that is `present` (B, T) bool."""
    assert isinstance(convolution, nn.Conv1d)
    beyond = convolution.kernel_size[0] - 1
    answers = convolution(F.pad(vectors, (beyond, beyond))).relu()  # (B, C, T + beyond)
    # The i-th window ends with token i: one counts as long as it holds a token. 0 is the least that relu gives.
    counts = F.pad(present, (beyond, 0), value=True).unsqueeze(1)
    return torch.where(counts, answers, 0).amax(dim=2)
