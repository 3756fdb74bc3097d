"""Names as vectors that are learned."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

# B batch, C columns of a table, W columns of what the model sees

MAX_EMBEDDING_WIDTH = 50


class CategoryEmbeddings(nn.Module):
    """The columns of a table that number names, each as a vector a name, behind those of amounts, which `scale` makes
    comparable (Guo & Berkhahn 2016, "Entity embeddings of categorical variables").

    `names` are those of each column, 0 for one of amounts. The vector of number 0, which stands for all names that are
    not told apart, is 0 at first: where training never moves it, it says nothing.
    """

    def __init__(self, *, names: Sequence[int], scale: nn.Module) -> None:
        super().__init__()
        self.scale = scale
        self.numbered = [column for column, count in enumerate(names) if count]
        self.amounts = [column for column, count in enumerate(names) if not count]
        self.counts = [count for count in names if count]
        vectors = [nn.Embedding(count, embedding_width(count)) for count in self.counts]
        for each in vectors:
            nn.init.zeros_(each.weight[0])
        self.vectors = nn.ModuleList(vectors)

    @staticmethod
    def shape(names: Sequence[int]) -> tuple[int]:
        """Of what the model sees of a sample."""
        return (sum(embedding_width(count) if count else 1 for count in names),)

    def forward(self, inputs: Tensor) -> Tensor:  # (B, C) -> (B, W)
        scaled: Tensor = self.scale(inputs)
        seen = [scaled[:, self.amounts]]
        for column, count, vectors in zip(self.numbered, self.counts, self.vectors, strict=True):
            numbers = inputs[:, column].long()  # not of `scaled`: low precision has too few digits to count
            known = (numbers >= 0) & (numbers < count)
            seen.append(vectors(torch.where(known, numbers, 0)).to(scaled.dtype))
        return torch.cat(seen, dim=1)


def embedding_width(names: int) -> int:
    """Of the vectors for so many names: the rule of fastai's tabular models."""
    return min(MAX_EMBEDDING_WIDTH, round(1.6 * math.pow(names, 0.56)))
