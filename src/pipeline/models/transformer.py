"""A transformer encoder."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.constraints import PositiveInt, ProbabilityBelowOne
from pipeline.models.layers.input_checks import PAD, masked_mean, token_embedding
from pipeline.spec import DataSpec, Kind

# B batch, T tokens, D width, H heads, K outputs


class Transformer(nn.Module):
    """The encoder of Vaswani et al. 2017, with learned positions, and norms before each layer (Xiong et al. 2020).

    The mean over the words represents the sentence.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("text",)

    def __init__(
        self,
        *,
        spec: DataSpec,
        width: PositiveInt,
        heads: PositiveInt,
        depth: PositiveInt,
        dropout: ProbabilityBelowOne,
    ) -> None:
        super().__init__()
        self.embedding = token_embedding(spec, width, model="transformer")
        self.positions = nn.Parameter(0.02 * torch.randn(spec.input_shape[0], width))
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(EncoderBlock(width=width, heads=heads, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, spec.num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:  # (B, T) -> (B, K)
        tokens = inputs.long()
        present = tokens != PAD
        # A sentence without words attends to its first place: softmax over nothing would give NaN.
        seen = present | (torch.arange(tokens.shape[1], device=tokens.device) == 0)
        words = self.dropout(self.embedding(tokens) + self.positions[: tokens.shape[1]])  # (B, T, D)
        for block in self.blocks:
            words = block(words, seen)
        scores: Tensor = self.output(self.dropout(masked_mean(self.norm(words), seen)))
        return scores


class EncoderBlock(nn.Module):
    """Self-attention, then a feed-forward network for each word: (B, T, D) -> (B, T, D)."""

    def __init__(self, *, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.asked = nn.Linear(width, 3 * width, bias=False)  # queries, keys and values
        self.told = nn.Linear(width, width)
        self.before_layers = nn.LayerNorm(width)
        self.layers = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, words: Tensor, seen: Tensor | None = None) -> Tensor:  # (B, T, D), (B, T) bool -> (B, T, D)
        words = words + self.dropout(self._attention(self.before_attention(words), seen))
        worked: Tensor = words + self.dropout(self.layers(self.before_layers(words)))
        return worked

    def _attention(self, words: Tensor, seen: Tensor | None) -> Tensor:
        # (B, T, 3 D) -> three of (B, H, T, D / H)
        query, key, value = self.asked(words).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        mask = None if seen is None else seen[:, None, None, :]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        told: Tensor = self.told(mixed.transpose(1, 2).flatten(2))
        return told
