"""Metrics of a part that lacks what they need: not recorded, and told; 0 would be a figure."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping
from tests.training.conftest import Digits

from pipeline.data.dataset import Splits
from pipeline.errors import ConfigError
from pipeline.lifecycle.build import Components
from pipeline.lifecycle.trainer import check_monitors
from pipeline.spec import Batch, DataSpec, TaskKind
from pipeline.training.evaluation import Evaluation
from pipeline.training.task import task_for_data


def evaluation(task: TaskKind, names: tuple[str, ...] = (), **facts: Any) -> Evaluation:
    spec = DataSpec("things", "table", task, (4,), names, (0.0,) * 4, (1.0,) * 4, **facts)
    return Evaluation(task_for_data(spec=spec, label_smoothing=0.0))


NUMBER = {"target_mean": (2000.0,), "target_std": (20.0,)}
# The task, its targets, and what is not defined on them, and why.
LACKING: dict[str, tuple[Evaluation, list[Any], dict[str, str]]] = {
    "a class of three": (evaluation("multiclass", ("a", "b", "c")), [0, 1, 1, 0], {"auroc": "no sample of class c"}),
    "two classes of three": (evaluation("multiclass", ("a", "b", "c")), [1, 1], {"auroc": "no sample of class a, c"}),
    "one class of two": (evaluation("binary", ("no", "yes")), [0, 0, 0], {"auroc": "no sample of class yes"}),
    "nothing": (evaluation("multiclass", ("a", "b", "c")), [2, 1, 0], {}),
    "variation": (evaluation("regression", **NUMBER), [[5.0], [5.0]], {"r2": "all samples are 5"}),
    "a second sample": (evaluation("regression", **NUMBER), [[5.0]], {"r2": "1 sample"}),
    "nothing of numbers": (evaluation("regression", **NUMBER), [[5.0], [6.0]], {}),
}


def judge(case: Evaluation, targets: torch.Tensor) -> dict[str, float]:
    case.reset()
    torch.manual_seed(0)
    spec_outputs = {"regression": 1, "binary": 1}.get(case.task.kind, 3)
    for some in targets.split(2):  # in batches, of which one may lack more than the part
        case.update(torch.randn(len(some), spec_outputs), Batch(some, some, torch.arange(len(some))))
    return {name: float(value) for name, value in case.compute().items()}


@pytest.mark.parametrize("name", LACKING)
def test_an_undefined_metric_is_left_out_and_its_reason_is_given(name: str) -> None:
    case, plain, expected = LACKING[name]
    targets = torch.tensor(plain)
    found = judge(case, targets)
    assert case.undefined == expected == case.undefined_on(targets)
    assert found.keys() == {"loss", *(str(each) for each in case.metrics)} - expected.keys()
    assert all(value == value for value in found.values())


def test_an_undefined_metric_is_defined_on_a_later_part_that_has_all_classes() -> None:
    case = LACKING["a class of three"][0]
    assert "auroc" not in judge(case, torch.tensor([0, 1])) and "auroc" in judge(case, torch.tensor([0, 1, 2]))
    assert case.undefined == {}


def test_a_label_that_neither_holds_nor_is_predicted_does_not_count_in_f1() -> None:
    case = evaluation("multilabel", ("funny", "sad", "long"))
    targets = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    case.update(9 * (2 * targets - 1), Batch(targets, targets, torch.arange(2)))
    assert float(case.compute()["f1_macro"]) == 1.0, "all is right; torchmetrics says 2/3"
    case.reset()
    case.update(-torch.ones(2, 3), Batch(targets, torch.zeros(2, 3), torch.arange(2)))
    assert "f1_macro" not in case.compute() and "f1_macro" in case.undefined


class NoNine(Digits):
    """Digits of which the validation part has no nine."""

    def load(self, root: Path | None) -> Splits:
        parts = super().load(root)
        part = parts.validation
        return replace(parts, validation=part.rows((part.targets != 9).nonzero().flatten()))


def test_an_undefined_metric_is_warned_of_once_in_a_run_and_not_recorded(fit, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        _, _, metrics = fit(tmp_path / "run", epochs=2, data={"source": NoNine()})
    told = "val/auroc is not defined, and not recorded: no sample of class 9 in the validation part"
    assert caplog.text.count(told) == 1
    assert metrics.named("val/auroc") == [] and len(metrics.named("val/accuracy")) == 2


def test_a_metric_that_is_undefined_in_validation_cannot_be_monitored(fit, tmp_path):
    trainer, learner, _ = fit(tmp_path / "run", epochs=1, data={"source": NoNine()})
    data = trainer.datamodule
    with pytest.raises(ConfigError, match=r"EarlyStopping monitors val/auroc, which is not defined \(no sample of cla"):
        check_monitors([EarlyStopping("val/auroc", mode="max")], Components(learner, data, data.spec, 20, 20))
