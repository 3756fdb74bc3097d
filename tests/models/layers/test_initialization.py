"""Weights as they are asked for: their size, what is left alone, and once and for all by the seed."""

from typing import Any

import pytest
import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.models.layers.initialization import Default, Initialization, Kaiming, Normal, Orthogonal, Xavier, Zeros


def applied(initialization: Initialization, model: nn.Module) -> Any:
    torch.manual_seed(0)
    initialization.apply(model)
    return model


def test_variances_are_those_of_the_papers() -> None:
    kaiming = applied(Kaiming(nonlinearity="relu"), nn.Linear(400, 300))
    assert kaiming.weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.03) and not kaiming.bias.any()
    xavier = applied(Xavier(gain=2.0), nn.Conv2d(40, 30, 3))
    assert xavier.weight.std().item() == pytest.approx(2 * (2 / (9 * 70)) ** 0.5, rel=0.03)
    assert applied(Normal(std=0.5), nn.Linear(400, 300)).weight.std().item() == pytest.approx(0.5, rel=0.03)


def test_orthogonal_rows_are() -> None:
    weight = applied(Orthogonal(gain=1.0), nn.Linear(30, 20)).weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(20), atol=1e-5, rtol=0)


def test_zeros_are_zeros_and_norms_and_embeddings_stay() -> None:
    model = nn.ModuleList([nn.GRU(2, 3), nn.BatchNorm1d(2), nn.Embedding(4, 2)])
    kept = model[2].weight.clone()
    applied(Zeros(), model)
    assert not any(parameter.any() for parameter in model[0].parameters())
    assert torch.equal(model[2].weight, kept) and model[1].weight.tolist() == [1, 1]


def test_zeros_that_would_keep_a_deep_model_from_learning_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"initialization=zeros .*Sequential has 2 layers .*initialization=default"):
        Zeros().apply(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1)))


def test_the_default_draws_nothing() -> None:
    model = nn.Linear(3, 2)
    before = [each.clone() for each in model.parameters()]
    state = torch.get_rng_state()
    Default().apply(model)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_to_draw_is_told() -> None:
    with pytest.raises(ConfigError, match=r"BatchNorm1d has no layer .* initialization=default"):
        Zeros().apply(nn.BatchNorm1d(2))
