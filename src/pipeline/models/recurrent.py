"""Recurrent networks, in one direction or both."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pipeline.constraints import PositiveInt, ProbabilityBelowOne
from pipeline.models.layers.input_checks import PAD, masked_mean, token_embedding
from pipeline.spec import DataSpec, Kind

# B batch, T tokens, D width, H hidden units, K outputs


class Recurrent(nn.Module):
    """Gated recurrent units (Cho et al. 2014) or LSTM (Hochreiter & Schmidhuber 1997), averaged over the sentence.

    With `bidirectional` (Schuster & Paliwal 1997) a second network reads the reversed sentence, which begins with the
    last word and not with padding.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("text",)

    def __init__(
        self,
        *,
        spec: DataSpec,
        cell: Literal["gru", "lstm"],
        width: PositiveInt,
        hidden: PositiveInt,
        depth: PositiveInt,
        bidirectional: bool,
        embedding_dropout: ProbabilityBelowOne,
        dropout: ProbabilityBelowOne,
    ) -> None:
        super().__init__()
        self.embedding = token_embedding(spec, width, model=cell)
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        kind = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
        between = dropout if depth > 1 else 0.0
        self.forwards = kind(width, hidden, depth, batch_first=True, dropout=between)
        self.backwards = kind(width, hidden, depth, batch_first=True, dropout=between) if bidirectional else None
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden * (1 + bidirectional), spec.num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:  # (B, T) -> (B, K)
        tokens = inputs.long()
        present = tokens != PAD
        vectors = self.embedding_dropout(self.embedding(tokens))  # (B, T, D)
        read = [masked_mean(self.forwards(vectors)[0], present)]  # (B, H)
        if self.backwards is not None:
            read.append(masked_mean(self.backwards(reverse_sequences(vectors, present))[0], present))
        scores: Tensor = self.output(self.dropout(torch.cat(read, dim=1)))
        return scores


def reverse_sequences(vectors: Tensor, present: Tensor) -> Tensor:
    """Return (B, T, D) with the last word first; the padding stays at the end. `present` is (B, T) bool."""
    places = torch.arange(vectors.shape[1], device=vectors.device).expand(present.shape)
    back = present.sum(dim=1, keepdim=True) - 1 - places
    return vectors.gather(1, torch.where(back >= 0, back, places).unsqueeze(-1).expand(vectors.shape))
