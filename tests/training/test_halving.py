"""A network for which memory does not suffice: torch's own allocator refuses what it asks for."""

import pytest
import torch
from torch import nn

from pipeline.errors import TrainingFailed
from pipeline.models.network import Network
from pipeline.training.halving import HalvingLearner, is_out_of_memory

MORE_THAN_THERE_IS = 2**50


class Hungry(nn.Module):
    """Takes all memory for more than `most` samples while it learns."""

    def __init__(self, most, norm=False, dropout=0.0):
        super().__init__()
        self.most = most
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), *([nn.BatchNorm1d(16)] if norm else []), nn.Tanh(), nn.Linear(16, 10)
        )
        self.layers.insert(-1, nn.Dropout(dropout))

    def forward(self, images):
        scores = self.layers(images)
        if self.training and len(images) > self.most:
            torch.empty(MORE_THAN_THERE_IS)
        return scores


def network(make_data, most, **settings):
    torch.manual_seed(0)
    return Network(body=Hungry(most, **settings), spec=make_data().spec)


def halving(make_data, most, **settings):
    return {"network": network(make_data, most, **settings), "kind": HalvingLearner}


def values_of(module):
    return list(module.state_dict().values())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_halved_batches_train_the_same_network(fit, tmp_path, make_data, dropout):
    _, whole, plain = fit(tmp_path / "whole", learner={"network": network(make_data, 1000, dropout=dropout)})
    _, halved, metrics = fit(tmp_path / "halved", learner=halving(make_data, 13, dropout=dropout))
    assert halved.parts == 4
    for one, other in zip(values_of(whole), values_of(halved), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    for (step, one), (same, other) in zip(plain.named("train/loss"), metrics.named("train/loss"), strict=True):
        assert step == same and one == pytest.approx(other, rel=1e-4)


def test_halving_changes_nothing_if_there_is_enough_memory(fit, tmp_path, make_data):
    _, whole, _ = fit(tmp_path / "whole", learner={"network": network(make_data, 1000, norm=True)})
    _, halved, _ = fit(tmp_path / "halved", learner=halving(make_data, 1000, norm=True))
    assert halved.parts == 1
    assert all(torch.equal(one, other) for one, other in zip(values_of(whole), values_of(halved), strict=True))


def test_accumulated_batches_are_halved_too(fit, tmp_path, make_data):
    accumulated = {"data": {"accumulate": 3}}
    _, whole, _ = fit(tmp_path / "whole", learner={"network": network(make_data, 1000)}, **accumulated)
    _, halved, _ = fit(tmp_path / "halved", learner=halving(make_data, 25), **accumulated)
    assert halved.parts == 2
    for one, other in zip(values_of(whole), values_of(halved), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_failed_attempt_leaves_no_trace_in_batch_norm(fit, tmp_path, make_data):
    """Ten steps of two halves are twenty updates; the attempt before them is none."""
    _, halved, _ = fit(tmp_path / "halved", epochs=1, learner=halving(make_data, 25, norm=True), max_steps=10)
    counts = [value for name, value in halved.state_dict().items() if name.endswith("num_batches_tracked")]
    assert counts == [torch.tensor(20)]


def test_a_resumed_halved_run_matches_the_uninterrupted_run(fit, tmp_path, make_data):
    _, whole, _ = fit(tmp_path / "whole", learner=halving(make_data, 13, norm=True))
    fit(tmp_path / "parts", learner=halving(make_data, 13, norm=True), interrupt_at=33)
    _, resumed, _ = fit(tmp_path / "parts", learner=halving(make_data, 13, norm=True))
    assert all(torch.equal(one, other) for one, other in zip(values_of(whole), values_of(resumed), strict=True))


def test_a_single_sample_that_does_not_fit_ends_the_run_with_a_clear_error(fit, tmp_path, make_data):
    with pytest.raises(TrainingFailed, match="out of memory with a single sample"):
        fit(tmp_path / "run", learner=halving(make_data, 0))


def test_other_errors_are_not_taken_for_a_lack_of_memory(fit, tmp_path, make_data):
    class Wrong(Hungry):
        def forward(self, images):
            raise RuntimeError("shapes cannot be multiplied")

    broken = {"network": Network(body=Wrong(1), spec=make_data().spec), "kind": HalvingLearner}
    with pytest.raises(RuntimeError, match="shapes"):
        fit(tmp_path / "run", learner=broken)


def test_torchs_errors_of_a_full_host_are_recognised_as_out_of_memory():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(MORE_THAN_THERE_IS)
    assert is_out_of_memory(refused.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
