"""Which way a metric is better."""

import ast
import math
from pathlib import Path

import pytest

import pipeline
from pipeline.metrics import METRICS, is_better, lower_is_better, mode_of
from pipeline.reports import formatting
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


def of_kind(kind: TaskKind) -> task.Task:
    numbers = ((0.0,), (1.0,)) if kind == "regression" else ((), ())
    names = () if kind == "regression" else ("a", "b")
    spec = DataSpec("pets", "table", kind, (3,), names, (0.0,), (1.0,), target_mean=numbers[0], target_std=numbers[1])
    return task.task_for_data(spec=spec, label_smoothing=0.0)


KINDS: tuple[TaskKind, ...] = ("multiclass", "binary", "multilabel", "regression")


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_of_every_task_is_defined_and_torchmetrics_agrees(kind: TaskKind) -> None:
    told = {str(name): "max" if metric.higher_is_better else "min" for name, metric in of_kind(kind).metrics().items()}
    assert told == {name: METRICS[name].mode for name in told if name in METRICS}
    assert {"loss", *of_kind(kind).sample_metric_names, of_kind(kind).headline} <= METRICS.keys()


def test_every_metric_that_is_defined_is_measured_by_some_task() -> None:
    measured = {str(name) for kind in KINDS for name in of_kind(kind).metrics()}
    assert measured | {"loss"} == METRICS.keys()


@pytest.mark.parametrize(
    "name, title, value",
    [
        ("accuracy", "accuracy", "98.25%"),
        ("r2", "R²", "0.9825"),
        ("rmse", "RMSE", "0.9825"),
        ("mae", "MAE", "0.9825"),
        ("loss", "loss", "0.9825"),
        ("f1_macro", "macro F1", "98.25%"),
        ("hamming_loss", "Hamming loss", "0.9825"),
        ("auroc", "AUROC", "0.9825"),
        ("calibration_error", "calibration error", "0.9825"),
        ("f2", "f2", "0.9825"),
    ],
)
def test_a_report_shows_title_and_unit_of_the_definition(name: str, title: str, value: str) -> None:
    assert (formatting.metric_title(f"test/{name}"), formatting.format_metric(f"test/{name}", 0.9825)) == (title, value)


def test_a_report_shows_metrics_in_the_order_of_their_definition() -> None:
    assert formatting.metric_order({f"test/{name}": 0.0 for name in ("f2", *reversed(METRICS))}) == [
        *(f"test/{name}" for name in METRICS),
        "test/f2",
    ]


def test_titles_stand_nowhere_else() -> None:
    titles = {ours.title for name, ours in METRICS.items() if ours.title != name}
    files = [file for file in Path(pipeline.__file__).parent.rglob("*.py") if file.name != "metrics.py"]
    keyed = [
        (file.name, node.value.value)
        for file in files
        for table in ast.walk(ast.parse(file.read_text()))
        if isinstance(table, ast.Dict)
        for node in [ast.Expr(value) for value in table.values if isinstance(value, ast.Constant)]
        if isinstance(node.value, ast.Constant) and node.value.value in titles
    ]
    assert keyed == []


@pytest.mark.parametrize(
    "name, mode", [("val/f2", "max"), ("test/f2", "max"), ("train/f2_epoch", "max"), ("val/regret", None)]
)
def test_the_direction_of_a_metric_of_the_users_own_counts_before_its_name(name: str, mode: str | None) -> None:
    assert mode_of(name, {"f2": "max"}) == mode
    assert mode_of("val/score", {"score": "min"}) == "min"


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
