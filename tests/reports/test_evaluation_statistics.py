"""How sure one can be: against scipy, scikit-learn, torchmetrics, and values worked out by hand."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics
from torchmetrics.functional.classification import multiclass_calibration_error

from pipeline.reports.evaluation_statistics import (
    calibration,
    class_scores,
    confusion,
    holm_adjusted,
    interval_of_accuracy,
    interval_of_f1,
    interval_of_mean,
    interval_of_r2,
    label_scores,
    mcnemar_test,
    r2,
    sign_flip_test,
)


def drawn(size: int = 600, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, size)
    said = np.where(generator.random(size) < 0.8, targets, generator.integers(0, classes, size))
    return targets, said


class TestR2:
    def test_is_scikit_learns(self) -> None:
        true = np.random.default_rng(0).normal(100, 20, (80, 2))
        predicted = true + np.random.default_rng(1).normal(0, 10, (80, 2))
        assert r2(true, predicted) == pytest.approx(metrics.r2_score(true, predicted))

    def test_its_interval_lies_around_it_and_is_not_disturbed_by_resamples_without_variance(self) -> None:
        true = np.array([[0.0], [0.0], [0.0], [10.0]])
        found = interval_of_r2(true, true + 0.5)
        assert found.low <= r2(true, true + 0.5) <= found.high


class TestInterval:
    def test_of_a_mean_agrees_with_the_percentile_bootstrap_of_scipy(self) -> None:
        values = np.random.default_rng(1).exponential(size=500)
        theirs = stats.bootstrap((values,), np.mean, n_resamples=5_000, method="percentile", rng=2).confidence_interval
        ours = interval_of_mean(values)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.015)

    def test_is_the_same_each_time_it_is_asked_for(self) -> None:
        values = np.random.default_rng(1).random(300)
        assert interval_of_mean(values) == interval_of_mean(values)

    def test_holds_the_true_accuracy_in_about_19_of_20_test_sets(self) -> None:
        generator = np.random.default_rng(3)
        found = [interval_of_accuracy(generator.random(400) < 0.85) for _ in range(200)]
        covered = sum(each.low <= 0.85 <= each.high for each in found)
        assert 180 <= covered <= 198

    def test_of_a_network_that_is_always_right_is_the_exact_bound(self) -> None:
        exact = stats.binomtest(50, 50).proportion_ci(0.95, method="exact")
        ours = interval_of_accuracy(np.ones(50, dtype=bool))
        assert (ours.low, ours.high) == pytest.approx((exact.low, exact.high))
        none_right = interval_of_accuracy(np.zeros(50, dtype=bool))
        assert (none_right.low, none_right.high) == pytest.approx((1 - exact.high, 1 - exact.low))

    def test_of_f1_agrees_with_resampling_the_samples_themselves(self) -> None:
        targets, said = drawn()
        generator = np.random.default_rng(4)
        rows = (generator.integers(0, len(targets), len(targets)) for _ in range(500))
        values = [metrics.f1_score(targets[each], said[each], average="macro") for each in rows]
        low, high = np.quantile(values, [0.025, 0.975])
        ours = interval_of_f1(confusion(targets, said, classes=5))
        assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.01)

    def test_of_f1_leaves_out_a_class_that_nobody_took_or_named(self) -> None:
        counts = np.zeros((4, 4), dtype=np.int64)
        counts[0, 0], counts[3, 3] = 30, 20
        interval = interval_of_f1(counts)
        assert (interval.low, interval.high) == (1.0, 1.0)


class TestScores:
    def test_of_each_class_are_those_of_scikit_learn(self) -> None:
        targets, said = drawn()
        ours = class_scores(confusion(targets, said, classes=5))
        theirs = metrics.precision_recall_fscore_support(targets, said)
        for mine, other in zip((ours.precision, ours.recall, ours.f1, ours.support), theirs, strict=True):
            assert mine == pytest.approx(other)

    def test_are_zero_for_a_class_that_never_occurs(self) -> None:
        scores = class_scores(confusion(np.array([0, 0]), np.array([0, 0]), classes=2))
        assert scores.precision.tolist() == scores.recall.tolist() == scores.f1.tolist() == [1.0, 0.0]
        assert scores.support.tolist() == [2, 0]


class TestCalibration:
    def test_error_is_that_of_torchmetrics(self) -> None:
        generator = torch.Generator().manual_seed(0)
        scores = torch.randn(2_000, 4, generator=generator).mul(2).softmax(dim=1)
        targets = torch.randint(0, 4, (2_000,), generator=generator)
        confidence, said = scores.max(dim=1)
        ours = calibration(confidence.numpy(), (said == targets).numpy())
        assert ours.error == pytest.approx(float(multiclass_calibration_error(scores, targets, 4, n_bins=15)), abs=1e-6)
        assert ours.counts.sum() == 2_000

    def test_error_of_two_bins_worked_out_by_hand(self) -> None:
        # 3 samples 0.6 sure, 2 of them right; 1 sample 0.9 sure, wrong: (3 * |2/3 - 0.6| + 1 * |0 - 0.9|) / 4
        found = calibration(np.array([0.6, 0.6, 0.6, 0.9]), np.array([True, True, False, False]))
        assert found.error == pytest.approx((3 * abs(2 / 3 - 0.6) + 0.9) / 4)

    def test_a_confidence_of_one_falls_into_the_last_bin(self) -> None:
        assert calibration(np.array([1.0]), np.array([True])).counts.tolist() == [0] * 14 + [1]


class TestMcNemar:
    @pytest.mark.parametrize("counts", [(0, 5), (3, 10), (40, 60), (900, 1_200), (1, 0)])
    def test_is_the_mid_p_value_of_the_binomial_test(self, counts: tuple[int, int]) -> None:
        fewer, size = min(counts), sum(counts)
        expected = stats.binomtest(fewer, size).pvalue - stats.binom.pmf(fewer, size, 0.5)
        assert mcnemar_test(*counts) == pytest.approx(expected)
        assert mcnemar_test(*counts) == mcnemar_test(*reversed(counts))

    def test_sees_nothing_where_both_are_right_alone_equally_often(self) -> None:
        assert mcnemar_test(0, 0) == mcnemar_test(8, 8) == 1.0


class TestSignFlips:
    def test_agree_with_the_permutation_test_of_scipy(self) -> None:
        differences = np.random.default_rng(5).standard_t(3, size=60) + 0.35
        theirs = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=9_999, rng=1)
        assert sign_flip_test(differences) == pytest.approx(theirs.pvalue, abs=0.01)

    def test_of_few_samples_are_the_share_of_all_signs_worked_out_by_hand(self) -> None:
        # All five on one side: 2 of 32 ways to draw the signs are as far from 0.
        assert sign_flip_test(np.full(5, 0.1, dtype=np.float32)) == pytest.approx(2 / 32, abs=0.01)

    def test_see_nothing_where_nothing_differs(self) -> None:
        assert sign_flip_test(np.zeros(50)) == 1.0

    def test_of_more_samples_than_signs_find_what_is_there_and_nothing_else(self) -> None:
        differences = np.random.default_rng(6).normal(0, 1, 50_000)
        differences -= differences.mean()
        assert sign_flip_test(differences) == pytest.approx(1.0, abs=0.01)
        assert sign_flip_test(differences + 0.02) < 0.001


def test_holm_adjusts_as_worked_out_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.6 times 4, 3, 2, 1, never falling, at most 1.
    assert holm_adjusted([0.02, 0.6, 0.01, 0.03]) == pytest.approx([0.06, 0.6, 0.04, 0.06])
    assert holm_adjusted([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm_adjusted([]) == []


def test_labels_have_scores_of_their_own() -> None:
    true = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0]], dtype=bool)
    said = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]], dtype=bool)
    scores = label_scores(true, said)
    assert scores.precision.tolist() == pytest.approx([2 / 3, 1.0, 0.0])
    assert scores.recall.tolist() == pytest.approx([2 / 3, 0.5, 0.0])
    assert scores.f1.tolist() == pytest.approx([2 / 3, 2 / 3, 0.0]) and scores.support.tolist() == [3, 2, 0]
