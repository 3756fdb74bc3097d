"""A batch in parts, each by itself: the same random numbers, outputs and gradients as of the whole."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from pipeline.training.distributed.batch_norm import batch_norm_over_processes
from pipeline.training.distributed.global_batch import LocalRows, dropout_mask, global_batch_semantics

B = 8


class Attention(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        heads = values.unflatten(-1, (2, -1)).transpose(1, 2)
        return F.scaled_dot_product_attention(heads, heads, heads, dropout_p=0.5)


class Draws(nn.Module):
    """What libraries and users do by themselves: stochastic depth, noise."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def forward(self, values: Tensor) -> Tensor:
        return self.change(values)


class First(nn.Module):
    def __init__(self, layers: nn.RNNBase) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.layers(values)[0]
        return found


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "dropout": lambda: nn.Dropout(0.3),
    "dropout in place": lambda: nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.3, inplace=True)),
    "alpha dropout": lambda: nn.AlphaDropout(0.3),
    "of whole channels": lambda: nn.Dropout1d(0.3),
    "all of it": lambda: nn.Dropout(1.0),
    "attention's own": Attention,
    "a transformer": lambda: nn.TransformerEncoderLayer(6, 2, 12, 0.3, batch_first=True),
    "lstm": lambda: First(nn.LSTM(6, 4, 2, dropout=0.3, batch_first=True)),
    "gru, both ways": lambda: First(nn.GRU(6, 4, 2, dropout=0.3, batch_first=True, bidirectional=True)),
    "rows of several in one": lambda: nn.Sequential(nn.Flatten(0, 1), nn.Dropout(0.3)),
    "stochastic depth": lambda: Draws(lambda values: values * values.new_empty(len(values), 1, 1).bernoulli_(0.5)),
    "probabilities": lambda: Draws(lambda values: values * torch.bernoulli(values.sigmoid())),
    "uniform noise": lambda: Draws(lambda values: values + torch.rand(values.shape)),
    "normal noise": lambda: Draws(lambda values: values * torch.randn_like(values)),
    "exponential noise": lambda: Draws(F.gumbel_softmax),
    "whole numbers": lambda: Draws(lambda values: values * torch.randint(9, (len(values), 1, 1))),
    "what is no sample": lambda: Draws(lambda values: values * torch.rand(5, 6)),
}
CUTS = {
    "two processes": [slice(0, 4), slice(4, 8)],
    "four processes": [slice(first, first + 2) for first in range(0, 8, 2)],
    "two halves": [slice(0, 8, 2), slice(1, 8, 2)],
    "two processes, two halves each": [slice(first, first + 4, 2) for first in (0, 1)]
    + [slice(first, first + 4, 2) for first in (4, 5)],
}


def result(network: nn.Module, values: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
    """Outputs and gradients of these rows of the batch, a row each."""
    own = values[rows].clone().requires_grad_()
    torch.manual_seed(3)
    with global_batch_semantics(LocalRows(B, rows, sync_batchnorm=False)):
        outputs = network(own)
        outputs.square().sum().backward()
    assert own.grad is not None
    return outputs.detach().reshape(len(own), -1), own.grad


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("network", NETWORKS)
def test_parts_of_a_global_batch_have_the_outputs_and_gradients_of_the_whole(network: str, cut: str) -> None:
    torch.manual_seed(0)
    layers, values = NETWORKS[network](), torch.randn(B, 5, 6)
    whole = result(layers, values, slice(0, B))
    parts = [result(layers, values, rows) for rows in CUTS[cut]]
    for of_whole, of_parts in zip(whole, zip(*parts, strict=True), strict=True):
        for rows, part in zip(CUTS[cut], of_parts, strict=True):
            torch.testing.assert_close(part, of_whole[rows], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "all of it"])
def test_each_draw_has_other_random_numbers(network: str) -> None:
    torch.manual_seed(0)
    layers, values = NETWORKS[network](), torch.randn(B, 5, 6)
    with global_batch_semantics(LocalRows(B, slice(0, B), sync_batchnorm=False)):
        assert not torch.equal(layers(values), layers(values))


def test_draws_from_an_own_generator_are_left_alone() -> None:
    with global_batch_semantics(LocalRows(B, slice(4, 8), sync_batchnorm=False)):
        found = torch.rand(4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(found, torch.rand(4, generator=torch.Generator().manual_seed(1)))


def test_torch_draws_as_usual_outside_of_a_global_batch() -> None:
    with global_batch_semantics(None):
        torch.manual_seed(0)
        inside = torch.randn(3), F.dropout(torch.ones(1000), 0.25, True)
    torch.manual_seed(0)
    assert torch.equal(inside[0], torch.randn(3))
    assert 700 < int(inside[1].count_nonzero()) < 800 and inside[1].max() == 1 / 0.75
    assert torch.equal(F.dropout(torch.ones(3), 0.5, False), torch.ones(3))


def test_a_forward_pass_computed_again_in_backward_drops_the_same_values() -> None:
    layers, values = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5)), torch.randn(B, 6)
    found = []
    for again in (False, True):
        layers.zero_grad()
        torch.manual_seed(0)
        with global_batch_semantics(LocalRows(2 * B, slice(0, B), sync_batchnorm=False)):
            outputs: Any = torch.utils.checkpoint.checkpoint(layers, values, use_reentrant=False) if again else None
            (layers(values) if outputs is None else outputs).square().sum().backward()
        found.append(next(layers.parameters()).grad)
    assert torch.equal(found[0], found[1])


class TestDropoutMask:
    """As good as drawn one by one."""

    @pytest.fixture
    def kept(self) -> Tensor:
        torch.manual_seed(0)
        share = LocalRows(256, slice(0, 256), sync_batchnorm=False)
        return dropout_mask(share, torch.Size((256, 4096)), 0.2, torch.device("cpu")).double()

    def test_dropout_keeps_the_requested_share(self, kept: Tensor) -> None:
        assert kept.unique().tolist() == [0, 1]
        assert abs(kept.mean() - 0.8) < 5 * 0.4 / kept.numel() ** 0.5

    @pytest.mark.parametrize("along", [0, 1])
    def test_no_two_rows_or_columns_of_a_dropout_mask_are_equal(self, kept: Tensor, along: int) -> None:
        """Correlations are normal, with the deviation of as many independent draws."""
        centred = (kept if along == 0 else kept[:, :512].T) - 0.8
        length = centred.shape[1]
        correlations = (centred @ centred.T / length / 0.16 * length**0.5).triu(1)
        found = correlations[correlations != 0]
        assert abs(found.std() - 1) < 0.02 and found.abs().max() < 6


class TestBatchNormOverProcesses:
    """Of one process, against torch's own; of several: tests/end_to_end/test_any_number_of_processes.py."""

    @pytest.fixture(autouse=True)
    def group(self) -> Iterator[None]:
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
        yield
        distributed.destroy_process_group()

    @pytest.mark.parametrize(
        "shape, dtype, affine, momentum",
        [
            ((7, 3), torch.float64, True, 0.1),
            ((7, 3, 5), torch.float64, True, None),
            ((2, 3, 4, 4), torch.float64, False, 0.3),
            ((2, 3, 4, 4, 2), torch.float32, True, 0.1),
            ((16, 3), torch.bfloat16, True, 0.1),
        ],
    )
    def test_batch_norm_over_one_process_equals_torchs_own(
        self, shape: tuple[int, ...], dtype: torch.dtype, affine: bool, momentum: Any
    ) -> None:
        torch.manual_seed(0)
        kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[len(shape)]
        values, gradient = 3 + 2 * torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)
        found = []
        for synchronised in (False, True):
            norm = kind(3, affine=affine, momentum=momentum).to(dtype)
            own = values.clone().requires_grad_()
            with global_batch_semantics(LocalRows(len(values), slice(0, len(values)), sync_batchnorm=synchronised)):
                for _ in range(2):
                    outputs = norm(own)
                outputs.backward(gradient)
            found.append([outputs, own.grad, *norm.state_dict().values(), *(each.grad for each in norm.parameters())])
        tolerance = {torch.bfloat16: 0.05, torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)

    def test_batch_norm_takes_low_precision_values_with_full_precision_weights(self) -> None:
        torch.manual_seed(0)
        norm, values = nn.BatchNorm1d(3), torch.randn(64, 3)
        found = []
        for kind in (torch.float32, torch.bfloat16):
            own = values.to(kind, copy=True).requires_grad_()
            with global_batch_semantics(LocalRows(64, slice(0, 64), sync_batchnorm=True)):
                outputs = norm(own)
                outputs.backward(values.to(kind))
            assert outputs.dtype == kind and own.grad is not None
            found.append((outputs.float(), own.grad.float()))
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)

    def test_batch_norm_is_exact_for_numbers_far_from_0(self) -> None:
        values = 1e4 + torch.randn(64, 2)
        found = batch_norm_over_processes(values, None, None, None, None, 0.1, 1e-5)
        expected = F.batch_norm(values.double(), None, None, training=True)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-3)
