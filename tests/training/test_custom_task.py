"""A loss and metrics of the user's own, put into a task."""

from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import classification, regression

from pipeline.errors import ConfigError
from pipeline.spec import Batch, DataSpec, TaskKind
from pipeline.training import task
from pipeline.training.custom_task import CustomTask
from pipeline.training.evaluation import Evaluation


def spec_of(kind: TaskKind, outputs: int = 1) -> DataSpec:
    names = {"multiclass": ("a", "b", "c"), "binary": ("no", "yes"), "multilabel": ("x", "y"), "regression": ()}[kind]
    means, stds = ((5.0,) * outputs, (2.0,) * outputs) if kind == "regression" else ((), ())
    return DataSpec("pets", "table", kind, (3,), names, (0.0,), (1.0,), target_mean=means, target_std=stds)


def custom(kind: TaskKind, *, outputs: int = 1, loss: Any = None, **metrics: torchmetrics.Metric) -> CustomTask:
    spec = spec_of(kind, outputs)
    return CustomTask(task.task_for_data(spec=spec, label_smoothing=0.0), spec=spec, loss=loss, metrics=metrics)


SCORES = torch.tensor([[2.0, 0.1, -1.0], [0.3, 0.2, 0.1], [-3.0, 1.0, 0.5], [0.0, 0.0, 4.0]])
ONE = torch.tensor([[2.0], [-0.5], [0.3], [-4.0]])
CLASSES, SIDES = torch.tensor([0, 2, 1, 2]), torch.tensor([1, 0, 0, 1])
LABELS = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
NUMBERS = torch.tensor([[5.0], [7.0], [4.0], [1.0]])


@pytest.mark.parametrize(
    "kind, loss, scores, targets, expected",
    [
        ("multiclass", nn.CrossEntropyLoss(label_smoothing=0.1), SCORES, CLASSES,
         F.cross_entropy(SCORES, CLASSES, label_smoothing=0.1)),
        ("binary", nn.CrossEntropyLoss(label_smoothing=0.1), ONE, SIDES,
         F.cross_entropy(F.pad(ONE, (1, 0)), SIDES, label_smoothing=0.1)),
        ("binary", nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0)), ONE, SIDES,
         F.binary_cross_entropy_with_logits(ONE[:, 0], SIDES.float(), pos_weight=torch.tensor(2.0))),
        ("multilabel", nn.MSELoss(), SCORES[:, :2], LABELS,
         F.mse_loss(SCORES[:, :2], LABELS)),
        ("regression", nn.HuberLoss(), ONE, NUMBERS, F.huber_loss((ONE - 5) / 2, (NUMBERS - 5) / 2)),
    ],
)  # fmt: skip
def test_a_users_own_loss_gets_the_tensors_that_torch_defines_for_it(
    kind: TaskKind, loss: nn.Module, scores: Tensor, targets: Tensor, expected: Tensor
) -> None:
    own, plain = custom(kind, loss=loss), custom(kind)
    assert torch.equal(own.loss(scores, targets), expected)
    assert torch.equal(own.losses(scores, targets), plain.losses(scores, targets))
    assert not torch.equal(plain.loss(scores, targets), expected)


@pytest.mark.parametrize(
    "kind, metric, scores, targets, expected",
    [
        ("multiclass", torchmetrics.FBetaScore(task="multiclass", num_classes=3, beta=2.0, average="macro"), SCORES,
         CLASSES, classification.MulticlassFBetaScore(2.0, 3)(SCORES, CLASSES)),
        ("binary", torchmetrics.FBetaScore(task="binary", beta=2.0), ONE, SIDES,
         classification.BinaryFBetaScore(2.0)(torch.sigmoid(ONE[:, 0]), SIDES)),
        ("multilabel", torchmetrics.FBetaScore(task="multilabel", num_labels=2, beta=2.0), SCORES[:, :2], LABELS,
         classification.MultilabelFBetaScore(2.0, 2, average="micro")(torch.sigmoid(SCORES[:, :2]), LABELS.long())),
        ("regression", regression.SpearmanCorrCoef(), ONE, NUMBERS,
         regression.SpearmanCorrCoef()(ONE[:, 0], NUMBERS[:, 0])),
    ],
)  # fmt: skip
def test_a_users_own_metric_is_computed_beside_the_tasks_own(
    kind: TaskKind, metric: torchmetrics.Metric, scores: Tensor, targets: Tensor, expected: Tensor
) -> None:
    evaluation = Evaluation(custom(kind, mine=metric))
    for rows in (slice(0, 3), slice(3, 4)):
        evaluation.update(scores[rows], Batch(scores[rows], targets[rows], torch.arange(4)[rows]))
    found = evaluation.compute()
    torch.testing.assert_close(found["mine"], expected)
    plain = Evaluation(task.task_for_data(spec=spec_of(kind), label_smoothing=0.0))
    plain.update(scores, Batch(scores, targets, torch.arange(4)))
    assert found.keys() == {*plain.compute(), "mine"}
    evaluation.reset()
    evaluation.update(scores, Batch(scores, targets, torch.arange(4)))
    torch.testing.assert_close(evaluation.compute()["mine"], expected)


def test_two_evaluations_do_not_share_the_state_of_metrics() -> None:
    one = custom("binary", mine=torchmetrics.Accuracy(task="binary"))
    seen, other = Evaluation(one), Evaluation(one)
    seen.update(ONE, Batch(ONE, SIDES, torch.arange(4)))
    other.update(ONE[:1], Batch(ONE[:1], SIDES[:1], torch.arange(1)))
    assert float(seen.compute()["mine"]) == 0.5 and float(other.compute()["mine"]) == 1.0


def test_the_direction_of_a_users_own_metric_is_the_one_its_class_states() -> None:
    own = custom("multiclass", h=classification.MulticlassHingeLoss(3), f2=classification.MulticlassFBetaScore(2.0, 3))
    assert own.modes == {"h": "min", "f2": "max"}


class Learned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))


@pytest.mark.parametrize(
    "kind, parts, told",
    [
        ("multiclass", {"loss": nn.CrossEntropyLoss(reduction="none")}, "returns shape (16,); expected one number"),
        ("binary", {"loss": nn.TripletMarginLoss()}, "task.loss cannot be computed"),
        ("multiclass", {"loss": lambda scores, targets: (scores.argmax(1) == targets).float().mean()},
         "returns a number without a gradient"),
        ("multiclass", {"loss": Learned()}, "has weights of its own"),
        ("multiclass", {"m": classification.MulticlassFBetaScore(2.0, 3, average="none")},
         "task.metrics.m returns shape (3,); expected one number"),
        ("multiclass", {"m": classification.BinaryAccuracy()}, "task.metrics.m cannot be computed"),
        ("regression", {"m": classification.MulticlassAccuracy(3)}, "task.metrics.m cannot be computed"),
    ],
)  # fmt: skip
def test_a_loss_or_metric_that_does_not_fit_is_refused_before_training(
    kind: TaskKind, parts: dict[str, Any], told: str
) -> None:
    state = torch.get_rng_state()
    with pytest.raises(ConfigError) as caught:
        custom(kind, **parts)
    assert told in str(caught.value)
    assert torch.equal(state, torch.get_rng_state())
