"""Who wins, and when nobody does."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics

from pipeline.reports.evaluation_statistics import mcnemar_test
from pipeline.reports.predictions import ClassPredictions, MultilabelPredictions, RegressionPredictions
from pipeline.reports.significance import are_comparable, conclusion, pairwise_tests

Predicted = Callable[..., ClassPredictions]


def test_equals_have_no_clear_winner(predicted: Predicted) -> None:
    networks = [predicted(0.80, seed=1), predicted(0.81, seed=2)]
    assert conclusion(["a", "b"], networks, pairwise_tests(networks)) == "no clear winner"


def test_a_good_network_beats_a_bad_one_and_comes_first(predicted: Predicted) -> None:
    networks = [predicted(0.6, seed=1), predicted(0.9, seed=2)]
    (test,) = pairwise_tests(networks)
    assert conclusion(["bad", "good"], networks, [test]) == "good is the best"
    assert (test.first, test.second) == (1, 0)
    assert test.p_value == test.adjusted == mcnemar_test(test.wins, test.losses) < 0.001
    assert test.difference == pytest.approx((test.wins - test.losses) / 400) == pytest.approx(0.3)
    assert 0.2 < test.interval.low < test.difference < test.interval.high < 0.4


def test_two_that_cannot_be_told_apart_share_the_place_before_a_third(predicted: Predicted) -> None:
    networks = [predicted(0.90, seed=1), predicted(0.6, seed=2), predicted(0.91, seed=3)]
    assert conclusion(["a", "b", "c"], networks, pairwise_tests(networks)) == "no clear winner among c and a"


def test_a_difference_that_counts_alone_does_not_count_among_many(predicted: Predicted) -> None:
    first, second = predicted(0.80, seed=1), predicted(0.865, seed=2)
    (alone,) = pairwise_tests([first, second])
    assert alone.is_decided
    among_many = pairwise_tests([first, second, *(predicted(0.83, seed=seed) for seed in range(3, 11))])
    same = next(test for test in among_many if {test.first, test.second} == {0, 1})
    assert same.p_value == alone.p_value and not same.is_decided


def test_of_predicted_numbers_the_one_wins_that_explains_more_of_them() -> None:
    networks = [numbers(missing=40, seed=1), numbers(missing=20, seed=2), numbers(missing=20.5, seed=3)]
    assert conclusion(["far", "near", "alike"], networks, pairwise_tests(networks)) in (
        "no clear winner among near and alike",
        "no clear winner among alike and near",
    )
    (test,) = pairwise_tests(networks[:2])
    far, near = (metrics.r2_score(each.targets, each.predicted) for each in networks[:2])
    assert (test.first, test.second) == (1, 0) and test.difference == pytest.approx(near - far)
    absolute = [metrics.mean_absolute_error(each.targets, each.predicted) for each in networks[:2]]
    assert test.cost_difference == pytest.approx(absolute[1] - absolute[0], rel=1e-4)
    assert test.wins > test.losses and test.wins + test.losses == 200 and test.is_decided
    assert test.interval.low < test.difference < test.interval.high


def test_of_labels_the_one_wins_that_has_them_all_right_more_often() -> None:
    true = np.arange(300).reshape(100, 3) % 2 == 0
    sure = np.where(true, 0.9, 0.1).astype(np.float32)
    worse = sure.copy()
    worse[:30, 1] = 1 - worse[:30, 1]
    (test,) = pairwise_tests([labels(worse, true), labels(sure, true)])
    assert (test.first, test.wins, test.losses) == (1, 30, 0) and test.difference == pytest.approx(0.3)
    assert test.p_value == mcnemar_test(30, 0)


def numbers(*, missing: float, seed: int) -> RegressionPredictions:
    """Of a network that is off by so much, give or take."""
    true = np.random.default_rng(0).normal(150, 70, (200, 1)).astype(np.float32)
    predicted = true + np.random.default_rng(seed).normal(0, missing, (200, 1)).astype(np.float32)
    return RegressionPredictions(predicted, true, np.arange(200), np.ones(200, np.float32), "the test set")


def labels(probabilities: np.ndarray, true: np.ndarray) -> MultilabelPredictions:
    return MultilabelPredictions(
        probabilities, true, np.arange(len(true)), np.ones(len(true), np.float32), "the test set"
    )


def test_only_those_that_judged_the_same_samples_can_be_paired(predicted: Predicted) -> None:
    network = predicted(0.8)
    assert are_comparable([network, predicted(0.9, seed=5)])
    assert not are_comparable([network, predicted(0.8, digest="another")])
    assert not are_comparable([network, replace(network, ids=network.ids[::-1])])
