"""MixUp and CutMix: what is mixed, with whom, and what it costs."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from pipeline.errors import ConfigError
from pipeline.spec import Batch, DataSpec, Mixed
from pipeline.training.callbacks.mixup_cutmix import CutMix, MixUp, blend_neighbours, paste_neighbours, swap_neighbours
from pipeline.training.distributed.global_batch import reseed
from pipeline.training.task import Classification, Regression, mixed_loss, mixed_sample_metrics

THINGS = DataSpec("things", "table", "multiclass", (4,), ("a", "b", "c"), (0.0,) * 4, (1.0,) * 4)
NUMBER = replace(THINGS, task="regression", class_names=(), target_mean=(0.0,), target_std=(2.0,))


def batch_of(count: int) -> Batch:
    """Pictures that are all of their own number."""
    rows = torch.arange(count)
    return Batch(rows.view(-1, 1, 1, 1).expand(count, 1, 8, 8).to(torch.uint8).clone(), rows % 3, rows)


def transformed(callback: MixUp | CutMix, batch: Batch, *, step: int = 0, world_size: int = 1) -> Batch:
    trainer: Any = SimpleNamespace(world_size=world_size)
    reseed(0, "augmentation", step)
    return callback.transform_batch(trainer, batch)


def test_neighbours_are_swapped_and_a_last_row_alone_stays() -> None:
    assert swap_neighbours(torch.arange(5)).tolist() == [1, 0, 3, 2, 4]
    assert torch.equal(swap_neighbours(swap_neighbours(torch.arange(7))), torch.arange(7))


def test_a_blend_is_a_weighted_mean_in_the_type_of_the_inputs() -> None:
    bytes_ = torch.tensor([[[[0]]], [[[100]]]], dtype=torch.uint8)
    blended = blend_neighbours(bytes_, 0.25)
    assert blended.dtype == torch.uint8 and blended.flatten().tolist() == [25, 75]
    torch.testing.assert_close(blend_neighbours(torch.tensor([[0.0], [1.0]]), 0.25), torch.tensor([[0.25], [0.75]]))
    sounds = blend_neighbours(torch.tensor([[-100], [100]], dtype=torch.int16), 0.25)
    assert sounds.dtype == torch.int16 and sounds.flatten().tolist() == [-50, 50]


def test_the_box_of_cutmix_is_the_partners_and_its_area_the_share() -> None:
    assert paste_neighbours(batch_of(2).inputs, (0, 2, 3, 8))[:, 0].sum((1, 2)).tolist() == [10, 64 - 10]
    for step in range(20):
        mixed = transformed(CutMix(alpha=1.0, p=1.0), batch_of(2), step=step)
        assert mixed.mixed is not None
        assert mixed.inputs[0].float().mean() == pytest.approx(mixed.mixed.share)


@pytest.mark.parametrize("callback", [MixUp(alpha=0.5, p=0.8), CutMix(alpha=1.0, p=0.8)])
def test_several_processes_mix_the_same_samples_as_one(callback: MixUp | CutMix) -> None:
    for step in range(10):
        whole = transformed(callback, batch_of(12), step=step)
        for rank in range(3):
            batch = batch_of(12)
            own = slice(4 * rank, 4 * rank + 4)
            part = Batch(batch.inputs[own], batch.targets[own], batch.ids[own])
            mine = transformed(callback, part, step=step, world_size=3)
            assert torch.equal(mine.inputs, whole.inputs[own])
            assert (mine.mixed is None) == (whole.mixed is None)
            if mine.mixed is not None and whole.mixed is not None:
                assert mine.mixed.share == whole.mixed.share
                assert torch.equal(mine.mixed.targets, whole.mixed.targets[own])


def test_the_share_p_of_the_batches_is_mixed() -> None:
    mixed = [transformed(MixUp(alpha=1.0, p=0.3), batch_of(2), step=step).mixed for step in range(400)]
    shares = [each.share for each in mixed if each is not None]
    assert len(shares) / 400 == pytest.approx(0.3, abs=0.08)
    assert sum(shares) / len(shares) == pytest.approx(0.5, abs=0.08)


def test_mixup_and_cutmix_together_keep_the_shares_of_an_image_right() -> None:
    for step in range(10):
        both = transformed(CutMix(alpha=1.0, p=1.0), transformed(MixUp(alpha=1.0, p=1.0), float_batch(), step=step))
        assert both.mixed is not None
        assert both.inputs[0].mean() == pytest.approx(both.mixed.share, abs=1e-5)


def float_batch(count: int = 2) -> Batch:
    return replace(batch_of(count), inputs=batch_of(count).inputs.float())


def test_the_loss_of_a_mixed_sample_is_that_of_its_mixed_target() -> None:
    task = Classification(spec=THINGS, label_smoothing=0.1)
    scores, batch = torch.randn(6, 3), replace(batch_of(6), mixed=Mixed(torch.tensor([1, 1, 2, 2, 0, 0]), 0.3))
    assert batch.mixed is not None
    soft = 0.7 * F.one_hot(batch.targets, 3) + 0.3 * F.one_hot(batch.mixed.targets, 3)
    expected = F.cross_entropy(scores, soft, label_smoothing=0.1)
    torch.testing.assert_close(mixed_loss(task, scores, batch), expected)
    hits = mixed_sample_metrics(task, F.one_hot(batch.targets, 3).float(), batch)["accuracy"]
    assert hits.tolist() == pytest.approx([1.0 if same else 0.7 for same in batch.targets == batch.mixed.targets])


def test_the_gradient_of_a_mixed_regression_sample_is_that_of_the_mixed_number() -> None:
    task = Regression(spec=NUMBER)
    scores = torch.randn(4, 1, requires_grad=True)
    one, other = torch.randn(4, 1), torch.randn(4, 1)
    batch = Batch(torch.zeros(4, 4), one, torch.arange(4), mixed=Mixed(other, 0.4))
    (found,) = torch.autograd.grad(mixed_loss(task, scores, batch), scores)
    (expected,) = torch.autograd.grad(task.loss(scores, one.lerp(other, 0.4)), scores)
    torch.testing.assert_close(found, expected)


def test_half_a_mixed_batch_is_mixed() -> None:
    whole = transformed(MixUp(alpha=1.0, p=1.0), batch_of(8))
    first, second = whole.rows(slice(0, 8, 2)), whole.rows(slice(1, 8, 2))
    assert whole.mixed is not None and first.mixed is not None and second.mixed is not None
    assert torch.equal(torch.stack([first.mixed.targets, second.mixed.targets], dim=1).flatten(), whole.mixed.targets)
    assert first.mixed.share == whole.mixed.share


def test_a_batch_with_an_odd_sample_is_mixed_but_for_that_sample() -> None:
    """Of data of the user's own, in one process of several: what the pipeline's own data hands out always pairs."""
    whole = transformed(MixUp(alpha=1.0, p=1.0), float_batch(3), world_size=2)
    assert whole.mixed is not None and whole.mixed.targets.tolist() == [1, 0, 2]
    assert torch.equal(whole.inputs[2], float_batch(3).inputs[2])


def test_columns_of_category_numbers_are_not_blended() -> None:
    names = ((), tuple(map(str, range(300))))
    table = DataSpec(
        "shops",
        "table",
        "regression",
        (2,),
        (),
        (0.0, 0.0),
        (1.0, 0.0),
        feature_names=("size", "shop"),
        categories=names,
    )
    with pytest.raises(ConfigError, match=r"shop of shops has numbers for 300 names: .*one_hot_up_to=300"):
        MixUp(alpha=1.0, p=1.0).check_data(table)
    MixUp(alpha=1.0, p=1.0).check_data(replace(table, categories=()))
