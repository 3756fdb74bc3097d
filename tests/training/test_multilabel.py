"""Labels that exclude each other no more than they demand each other."""

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.spec import DataSpec
from pipeline.training.task import Classification, Multilabel, task_for_data

SPEC = DataSpec("films", "table", "multilabel", (4,), ("funny", "sad", "long"), (0.0,) * 4, (1.0,) * 4)
SCORES = torch.tensor([[0.9, 0.2, 0.6], [2.0, -3.0, 0.4], [-1.0, -2.0, -3.0]])
TARGETS = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])


def test_the_multilabel_loss_is_the_mean_logistic_loss_of_all_labels() -> None:
    task = task_for_data(spec=SPEC, label_smoothing=0.0)
    probabilities = torch.sigmoid(SCORES)
    expected = -torch.where(TARGETS > 0, probabilities, 1 - probabilities).log()
    torch.testing.assert_close(task.losses(SCORES, TARGETS), expected.mean(dim=1))
    torch.testing.assert_close(task.loss(SCORES, TARGETS), expected.mean())
    smooth = Multilabel(spec=SPEC, label_smoothing=0.2)
    assert smooth.loss(9 * (2 * TARGETS - 1), TARGETS) > task.loss(9 * (2 * TARGETS - 1), TARGETS)


def test_a_multilabel_sample_is_right_if_all_of_its_labels_are() -> None:
    task = Multilabel(spec=SPEC, label_smoothing=0.0)
    assert task.sample_metrics(SCORES, TARGETS)["accuracy"].tolist() == [False, True, True]
    metrics = task.metrics()
    for rows in (slice(0, 1), slice(1, 3)):  # the first has its scores in [0, 1], as if they were probabilities
        metrics.update(task.predictions(SCORES[rows]), TARGETS[rows])
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found == pytest.approx({"accuracy": 2 / 3, "hamming_loss": 1 / 9, "f1_macro": (1 + 1 + 2 / 3) / 3})


def test_a_task_that_does_not_fit_the_data_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"films has any of 3 labels to predict.*use task=multilabel"):
        Classification(spec=SPEC, label_smoothing=0.0)
    several = DataSpec("films", "table", "multiclass", (4,), ("funny", "sad", "long"), (0.0,) * 4, (1.0,) * 4)
    with pytest.raises(ConfigError, match=r"films has 3 classes \(multiclass\).*'data\.source\.label_separator=\";\"'"):
        Multilabel(spec=several, label_smoothing=0.0)
