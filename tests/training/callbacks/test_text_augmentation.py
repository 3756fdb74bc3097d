"""Words left out at random: how many, which, and never padding."""

import pytest
import torch

from pipeline.training.callbacks.text_augmentation import drop_tokens
from pipeline.training.distributed.global_batch import reseed

TOKENS = torch.full((400, 50), 7, dtype=torch.int16)


def test_token_dropout_makes_the_share_p_unknown_and_padding_stays() -> None:
    tokens = TOKENS.clone()
    tokens[:, 40:] = 0
    reseed(0, "augmentation", 0)
    dropped = drop_tokens(tokens, 0.25)
    assert dropped.dtype == tokens.dtype and (dropped[:, 40:] == 0).all()
    assert (dropped[:, :40] == 1).float().mean() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(drop_tokens(tokens, 0.0), tokens)


def test_two_processes_drop_the_same_tokens_as_one() -> None:
    reseed(0, "augmentation", 3)
    whole = drop_tokens(TOKENS, 0.3)
    halves = []
    for rank, half in enumerate(TOKENS.chunk(2)):
        reseed(0, "augmentation", 3)
        halves.append(drop_tokens(half, 0.3, rank=rank, world_size=2))
    assert torch.equal(torch.cat(halves), whole)
