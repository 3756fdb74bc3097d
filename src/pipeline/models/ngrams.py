"""Logistic regression over words and n-grams."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.constraints import PositiveInt
from pipeline.models.bag_of_words import HASH_MULTIPLIER
from pipeline.models.layers.input_checks import PAD, token_embedding
from pipeline.spec import DataSpec, Kind

# B batch, T tokens, K outputs


class Ngrams(nn.Module):
    """The sum of a weight for each word and each n-gram of up to `longest` words (Wang & Manning 2012).

    N-grams find their weights by hashing (Weinberger et al. 2009), in `buckets` for each length. Sums are divided by
    the root of the number of words, the Euclidean length of a vector with a 1 for each.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("text",)

    def __init__(self, *, spec: DataSpec, longest: PositiveInt, buckets: PositiveInt) -> None:
        super().__init__()
        self.buckets = buckets
        self.words = token_embedding(spec, spec.num_outputs, model="ngrams")
        self.runs = nn.ModuleList(nn.Embedding(buckets, spec.num_outputs) for _ in range(longest - 1))
        for table in (self.words, *self.runs):
            nn.init.normal_(table.weight, std=0.01)  # small: unseen words have almost no effect
        self.bias = nn.Parameter(torch.zeros(spec.num_outputs))

    def forward(self, inputs: Tensor) -> Tensor:  # (B, T) -> (B, K)
        run = tokens = inputs.long()
        counts = present = tokens != PAD
        sums = _masked_sum(self.words, tokens, counts)
        for length, table in enumerate(self.runs, start=2):
            # The n-gram that begins at each place; it counts where it ends within the sentence.
            run = run * HASH_MULTIPLIER + _shift_left(tokens, length - 1)
            counts = counts & _shift_left(present, length - 1)
            sums = sums + _masked_sum(table, run % self.buckets, counts)
        size = present.sum(dim=1, keepdim=True).clamp(min=1)
        return sums / size.sqrt() + self.bias


def _shift_left(values: Tensor, places: int) -> Tensor:
    """Return (B, T) with each value from so many places later; 0 past the end."""
    return F.pad(values, (0, places))[:, places:]


def _masked_sum(table: nn.Module, rows: Tensor, counts: Tensor) -> Tensor:
    """Return (B, K): the sum of the vectors of `rows` (B, T) that `counts` (B, T) bool."""
    return torch.where(counts.unsqueeze(-1), table(rows), 0).sum(dim=1)
