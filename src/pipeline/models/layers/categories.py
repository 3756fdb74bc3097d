"""Embeddings of categories in tables."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

# B batch, C columns of a table, W columns of what the model sees

MAX_EMBEDDING_WIDTH = 50


class CategoryEmbeddings(nn.Module):
    """Replaces each categorical column by a vector, behind the numeric columns, which `scale` standardizes.

    (B, C) -> (B, W); Guo & Berkhahn 2016, "Entity embeddings of categorical variables". `names` has the number of
    categories of each column, 0 for a numeric one. The vector of category 0, which stands for all rare and unknown
    ones, is 0 at first, so it has no effect unless training changes it.
    """

    def __init__(self, *, names: Sequence[int], scale: nn.Module) -> None:
        super().__init__()
        self.scale = scale
        self.numbered = [column for column, count in enumerate(names) if count]
        self.amounts = [column for column, count in enumerate(names) if not count]
        self.counts = [count for count in names if count]
        vectors = [nn.Embedding(count, embedding_width(count)) for count in self.counts]
        for table in vectors:
            nn.init.zeros_(table.weight[0])
        self.vectors = nn.ModuleList(vectors)

    @staticmethod
    def shape(names: Sequence[int]) -> tuple[int]:
        """Return the shape of a sample as the model sees it, (W,)."""
        return (sum(embedding_width(count) if count else 1 for count in names),)

    def forward(self, inputs: Tensor) -> Tensor:  # (B, C) -> (B, W)
        scaled: Tensor = self.scale(inputs)
        seen = [scaled[:, self.amounts]]
        for column, count, vectors in zip(self.numbered, self.counts, self.vectors, strict=True):
            numbers = inputs[:, column].long()  # not from `scaled`: low precision has too few digits
            known = (numbers >= 0) & (numbers < count)
            seen.append(vectors(torch.where(known, numbers, 0)).to(scaled.dtype))
        return torch.cat(seen, dim=1)


def embedding_width(names: int) -> int:
    """Return the width of the vectors for so many categories, by the rule of fastai's tabular models."""
    return min(MAX_EMBEDDING_WIDTH, round(1.6 * math.pow(names, 0.56)))
