"""Augment training sentences."""

from dataclasses import replace

import pytorch_lightning as pl
import torch
from torch import Tensor

from pipeline.constraints import ProbabilityBelowOne
from pipeline.spec import Batch
from pipeline.training.callbacks.hooks import BatchTransform, local_rows

# B batch of this process, W processes, T tokens

PAD, UNKNOWN = 0, 1


class TokenDropout(BatchTransform):
    """Replace each token by the unknown one with probability `p` (Iyyer et al. 2015): no word may decide alone."""

    name = "token_dropout"
    kinds = ("text",)

    def __init__(self, *, p: ProbabilityBelowOne) -> None:
        self.p = p

    @torch.no_grad()
    def transform_batch(self, trainer: pl.Trainer, batch: Batch) -> Batch:
        tokens = drop_tokens(batch.inputs, self.p, rank=trainer.global_rank, world_size=trainer.world_size)
        return replace(batch, inputs=tokens)


def drop_tokens(tokens: Tensor, p: float, *, rank: int = 0, world_size: int = 1) -> Tensor:
    """Return token numbers (B, T) with some unknown, and padding as before; draws from torch's generator."""
    drawn = torch.rand((world_size * len(tokens), tokens.shape[1]), device=tokens.device)
    dropped = local_rows(drawn, rank, len(tokens)) < p
    return tokens.masked_fill(dropped & (tokens != PAD), UNKNOWN)
