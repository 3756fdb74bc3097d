"""Which way a metric is better."""

import math

import pytest

from pipeline.metrics import OURS, is_better, lower_is_better, mode_of
from pipeline.spec import DataSpec, TaskKind
from pipeline.training import task


@pytest.mark.parametrize(
    "name, mode",
    [
        ("val/loss", "min"),
        ("val_loss", "min"),
        ("val_loss_epoch", "min"),
        ("val_loss/dataloader_idx_0", "min"),
        ("valLoss", "min"),
        ("val/hamming_loss", "min"),
        ("test/calibration_error", "min"),
        ("val/MulticlassHingeLoss", "min"),
        ("val/f1_macro", "max"),
        ("val_acc", "max"),
        ("val_acc_top1", "max"),
        ("val_MulticlassAccuracy", "max"),
        ("val_mAP", "max"),
        ("val/r2", "max"),
        ("val/temperature", None),
        ("val", None),
    ],
)
def test_the_name_tells_which_way_it_is_better(name: str, mode: str | None) -> None:
    assert mode_of(name) == mode
    assert lower_is_better(name) is (mode == "min")


@pytest.mark.parametrize("kind", ["multiclass", "binary", "multilabel", "regression"])
def test_every_metric_of_every_task_is_known_and_torchmetrics_agrees(kind: TaskKind) -> None:
    numbers = ((0.0,), (1.0,)) if kind == "regression" else ((), ())
    names = () if kind == "regression" else ("a", "b")
    spec = DataSpec("pets", "table", kind, (3,), names, (0.0,), (1.0,), target_mean=numbers[0], target_std=numbers[1])
    found = task.of_data(spec=spec, label_smoothing=0.0).metrics()
    told = {str(name): "max" if metric.higher_is_better else "min" for name, metric in found.items()}
    assert told == {name: OURS.get(name) for name in told}


@pytest.mark.parametrize(
    "value, than, mode, better",
    [
        (0.1, 0.2, "min", True),
        (0.2, 0.1, "min", False),
        (0.2, 0.1, "max", True),
        (0.1, 0.1, "max", False),
        (math.nan, 0.1, "min", False),
        (0.1, math.nan, "min", True),
        (math.nan, math.nan, "max", False),
    ],
)
def test_no_number_is_never_better_and_any_number_is_better_than_none(
    value: float, than: float, mode: str, better: bool
) -> None:
    assert is_better(value, than, mode) is better
