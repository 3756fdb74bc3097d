"""Class weights: the figures, what they do to the loss, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from pipeline.errors import ConfigError
from pipeline.spec import DataSpec
from pipeline.training.task import Binary, Classification, balanced_class_weights, class_weight_tensor, task_for_data

THINGS = DataSpec(
    "things", "table", "multiclass", (4,), ("a", "b", "c"), (0.0,) * 4, (1.0,) * 4, class_counts=(6, 3, 1)
)


def test_balanced_classes_weigh_the_same_and_a_sample_one_on_average() -> None:
    counts = torch.tensor(THINGS.class_counts)
    weights = balanced_class_weights(THINGS.class_counts)
    torch.testing.assert_close(weights * counts, torch.full((3,), 10 / 3))
    assert float((weights * counts).sum() / counts.sum()) == pytest.approx(1.0)
    assert balanced_class_weights([5, 0, 5]).tolist() == [1, 0, 1]


def test_the_loss_is_the_mean_of_weighted_losses_however_the_batch_is_cut() -> None:
    task = Classification(spec=THINGS, label_smoothing=0.1, class_weights=[1, 2, 0.5])
    scores, targets = torch.randn(8, 3), torch.tensor([0, 1, 2, 0, 0, 1, 1, 2])
    each = F.cross_entropy(scores, targets, label_smoothing=0.1, reduction="none")
    expected = (each * torch.tensor([1, 2, 0.5])[targets]).mean()
    torch.testing.assert_close(task.loss(scores, targets), expected)
    halves = [task.loss(scores[rows], targets[rows]) for rows in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(sum(halves) / 2, expected)


def test_reported_losses_are_not_weighted() -> None:
    weighted = Classification(spec=THINGS, label_smoothing=0.0, class_weights="balanced")
    plain = Classification(spec=THINGS, label_smoothing=0.0)
    scores, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 2, 1])
    assert torch.equal(weighted.losses(scores, targets), plain.losses(scores, targets))


def test_two_classes_with_one_score_can_have_weights() -> None:
    spec = replace(THINGS, task="binary", class_names=("no", "yes"), class_counts=(8, 2))
    task = task_for_data(spec=spec, label_smoothing=0.0, class_weights="balanced")
    assert isinstance(task, Binary)
    scores, targets = torch.randn(6, 1), torch.tensor([0, 1, 0, 1, 1, 0])
    each = task.losses(scores, targets) * torch.tensor([0.625, 2.5])[targets]
    torch.testing.assert_close(task.loss(scores, targets), each.mean())


@pytest.mark.parametrize(
    "asked, told",
    [
        ([1, 2], r"\[1,2\] has 2 weights, and things has 3 classes: .* \[1,1,1\], in the order a, b, c"),
        ([1, -2, 3], "expected 0 or more for each class"),
        ([0, 0, 0], "not 0 for all"),
        ("balance", "expected null, balanced, or a weight for each class"),
    ],
)
def test_invalid_class_weights_are_refused(asked: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        class_weight_tensor(asked, THINGS)


def test_class_weights_without_classes_or_counts_are_refused() -> None:
    number = replace(THINGS, task="regression", class_names=(), target_mean=(0.0,), target_std=(1.0,))
    with pytest.raises(ConfigError, match=r"class_weights=balanced weighs classes; things has a number"):
        task_for_data(spec=number, label_smoothing=0.0, class_weights="balanced")
    with pytest.raises(ConfigError, match=r"does not say how many samples .* task\.class_weights=\[1,2\]"):
        class_weight_tensor("balanced", replace(THINGS, class_counts=()))
