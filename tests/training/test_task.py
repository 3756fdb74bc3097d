"""What is asked of a network: the losses against their formulas, and what each task refuses."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipeline.errors import ConfigError
from pipeline.spec import DataSpec, TaskKind
from pipeline.training.task import Binary, Classification, PerceptronTask, Regression, check_scores, task_for_data

TWO, THREE = ("no", "yes"), ("a", "b", "c")


def spec(task: TaskKind, names: tuple[str, ...] = (), **facts: Any) -> DataSpec:
    return DataSpec("things", "table", task, (4,), names, (0.0,) * 4, (1.0,) * 4, **facts)


NUMBER = spec("regression", target_mean=(2000.0,), target_std=(20.0,))


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values).unsqueeze(1)


class TestTaskForData:
    @pytest.mark.parametrize(
        "described, expected",
        [(spec("multiclass", THREE), Classification), (spec("binary", TWO), Binary), (NUMBER, Regression)],
    )
    def test_the_default_task_follows_from_the_data(self, described: DataSpec, expected: type) -> None:
        task = task_for_data(spec=described, label_smoothing=0.0)
        assert type(task) is expected and task.kind == described.task

    def test_label_smoothing_is_for_classes_and_not_for_numbers(self) -> None:
        assert vars(task_for_data(spec=spec("binary", TWO), label_smoothing=0.1))["label_smoothing"] == 0.1
        with pytest.raises(ConfigError, match=r"label_smoothing=0.1 .* things has a number to predict: leave it out"):
            task_for_data(spec=NUMBER, label_smoothing=0.1)

    def test_an_unknown_kind_of_task_is_refused_with_the_way_to_add_it(self) -> None:
        with pytest.raises(ConfigError, match=r"things is ranking, and no task here is: .* task._target_"):
            task_for_data(spec=spec(cast(TaskKind, "ranking"), THREE), label_smoothing=0.0)


class TestBinary:
    def test_the_binary_loss_is_the_logistic_loss_of_one_score(self) -> None:
        task = Binary(spec=spec("binary", TWO), label_smoothing=0.0)
        scores, targets = torch.randn(20, 1), torch.arange(20) % 2
        expected = F.binary_cross_entropy_with_logits(scores[:, 0], targets.float(), reduction="none")
        torch.testing.assert_close(task.losses(scores, targets), expected)
        assert task.loss(scores, targets) == pytest.approx(float(expected.mean()), rel=1e-5)

    def test_the_second_class_is_predicted_where_the_score_is_above_zero(self) -> None:
        task = Binary(spec=spec("binary", TWO), label_smoothing=0.0)
        hits = task.sample_metrics(column(-0.2, 0.2, 0.9), torch.tensor([0, 0, 1]))
        assert hits["accuracy"].tolist() == [True, False, True]

    def test_small_binary_scores_are_log_odds_and_not_probabilities(self) -> None:
        task = Binary(spec=spec("binary", TWO), label_smoothing=0.0)
        metrics = task.metrics()
        metrics.update(task.predictions(column(0.1, 0.4)), torch.tensor([1, 1]))  # torchmetrics would say 0 of both
        assert metrics.compute()["accuracy"] == 1

    def test_a_binary_task_refuses_three_classes_and_says_how_to_make_them_two(self) -> None:
        with pytest.raises(ConfigError, match=r"things has 3 .*task=classification, .*data.source.positive=a"):
            Binary(spec=spec("multiclass", THREE), label_smoothing=0.0)


class TestPerceptron:
    def test_the_perceptron_loss_is_the_distance_on_the_wrong_side(self) -> None:
        task = PerceptronTask(spec=spec("binary", TWO))
        scores, targets = column(-3.0, 2.0, 0.5, -0.5), torch.tensor([0, 0, 1, 1])
        assert task.losses(scores, targets).tolist() == [0, 2, 0, 0.5]
        assert task.loss(scores, targets) == pytest.approx(2.5 / 4)

    def test_a_step_down_the_perceptron_loss_is_rosenblatts_rule(self) -> None:
        weights = torch.zeros(1, 2, requires_grad=True)
        inputs = torch.tensor([[1.0, 2.0]])
        task = PerceptronTask(spec=spec("binary", TWO))
        with torch.no_grad():
            weights += torch.tensor([[-1.0, 0.0]])  # so that the sample is on the wrong side
        task.loss(inputs @ weights.T, torch.tensor([1])).backward()
        assert weights.grad is not None and torch.equal(-weights.grad, inputs)  # w += y * x


class TestRegression:
    def test_the_regression_loss_is_the_squared_error_in_units_of_the_training_variance(self) -> None:
        task = Regression(spec=NUMBER)
        losses = task.losses(column(2000.0, 2040.0), column(2020.0, 2030.0))
        assert losses.tolist() == [1.0, 0.25]
        assert task.sample_metrics(column(2000.0), column(2020.0))["mae"].tolist() == [20.0]

    def test_regression_metrics_are_in_the_numbers_units_and_exact_far_from_zero(self) -> None:
        generator = np.random.default_rng(0)
        true = generator.normal(2_000_000, 1, (64, 1)).astype(np.float32)
        said = true + generator.normal(0, 0.5, (64, 1)).astype(np.float32)
        metrics = Regression(spec=spec("regression", target_mean=(2e6,), target_std=(1.0,))).metrics()
        for first in range(0, 64, 16):
            rows = slice(first, first + 16)
            metrics.update(torch.from_numpy(said[rows]), torch.from_numpy(true[rows]))
        missed = true.astype(np.float64) - said
        expected = 1 - np.square(missed).sum() / np.square(true.astype(np.float64) - true.mean(dtype=np.float64)).sum()
        found = metrics.compute()
        assert found["r2"] == pytest.approx(expected, abs=1e-3)
        assert found["mae"] == pytest.approx(np.abs(missed).mean(), rel=1e-3)
        assert found["rmse"] == pytest.approx(np.sqrt(np.square(missed).mean()), rel=1e-3)

    def test_a_target_that_never_varies_is_not_divided_by_its_deviation(self) -> None:
        task = Regression(spec=spec("regression", target_mean=(5.0,), target_std=(0.0,)))
        assert task.losses(column(7.0), column(5.0)).tolist() == [4.0]

    def test_regression_refuses_classes_and_classification_refuses_numbers(self) -> None:
        with pytest.raises(ConfigError, match="predicts numbers; things has 3 classes: leave task out"):
            Regression(spec=spec("multiclass", THREE))
        with pytest.raises(ConfigError, match="things has a number to predict and no classes: use task=regression"):
            Classification(spec=NUMBER, label_smoothing=0.0)


@pytest.mark.parametrize(
    "described, meant",
    [
        (spec("multiclass", THREE), r"expected \(2, 3\), one score for each of the 3 classes"),
        (spec("binary", TWO), r"expected \(2, 1\), one score to tell the 2 classes apart"),
        (NUMBER, r"expected \(2, 1\), a column for each number"),
    ],
)
def test_a_network_with_scores_of_another_shape_is_refused_with_the_expected_one(
    described: DataSpec, meant: str
) -> None:
    with pytest.raises(ConfigError, match=rf"returns \(2, 4\) for 2 samples of things; {meant} \(.*spec.num_outputs"):
        check_scores(torch.nn.Identity(), torch.zeros(2, 4), described)
