"""The mean of word vectors, with the order of neighbours alone."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.constraints import NonNegativeInt, PositiveInt, ProbabilityBelowOne
from pipeline.models.layers.input_checks import PAD, masked_mean, token_embedding
from pipeline.spec import DataSpec, Kind

# B batch, T tokens, D width, K outputs

HASH_MULTIPLIER = 1_000_003  # a prime, which spreads pairs over the buckets


class BagOfWords(nn.Module):
    """The classifier of fastText (Joulin, Grave, Bojanowski & Mikolov 2017): averages words and pairs of neighbours.

    All pairs share `pair_buckets` vectors by hashing; 0 leaves pairs out.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("text",)

    def __init__(
        self, *, spec: DataSpec, width: PositiveInt, pair_buckets: NonNegativeInt, dropout: ProbabilityBelowOne
    ) -> None:
        super().__init__()
        self.words = token_embedding(spec, width, model="bag_of_words")
        self.pairs = nn.Embedding(pair_buckets, width) if pair_buckets > 0 else None
        # Small, so that words which are rare in training have little effect.
        for table in (self.words, self.pairs):
            if table is not None:
                nn.init.normal_(table.weight, std=0.01)
        with torch.no_grad():
            self.words.weight[PAD] = 0
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, spec.num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:  # (B, T) -> (B, K)
        tokens = inputs.long()
        present = tokens != PAD
        mean = masked_mean(self.words(tokens), present)  # (B, D)
        if self.pairs is not None:
            neighbours = (tokens[:, :-1] * HASH_MULTIPLIER + tokens[:, 1:]) % self.pairs.num_embeddings
            mean = mean + masked_mean(self.pairs(neighbours), present[:, 1:])
        scores: Tensor = self.output(self.dropout(mean))
        return scores
