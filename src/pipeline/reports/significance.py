"""Compare networks on the same test samples, with paired significance tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from pipeline.reports.evaluation_statistics import (
    SIGNIFICANCE,
    Floats,
    Interval,
    holm_adjusted,
    interval_of_mean,
    mcnemar_test,
    sign_flip_test,
)
from pipeline.reports.predictions import ClassPredictions, MultilabelPredictions, RegressionPredictions, TestPredictions

# N test samples, T numbers to predict

NO_WINNER = "no clear winner"


@dataclass(frozen=True)
class Criterion:
    """The metrics and the test by which networks are compared.

    score, cost    metrics of the test set; each is the mean of `scores` or `costs`, (N,) one a sample
    wins_label     heading for the samples on which one network scores higher
    test           returns the p value of differences in score (N,)
    """

    score: str
    cost: str
    scores: Callable[[Any], Floats]
    costs: Callable[[Any], Floats]
    wins_label: str
    test: Callable[[Floats], float]
    explanation: str


def _accuracies(predictions: ClassPredictions | MultilabelPredictions) -> Floats:
    return predictions.correct.astype(np.float32)


def _explained_variances(predictions: RegressionPredictions) -> Floats:
    """Return (N,) values whose mean is R2: 1 less the squared errors, in units of the targets' variance."""
    variance = predictions.targets.var(axis=0, dtype=np.float64)
    missed = np.square(predictions.residuals, dtype=np.float64) / np.where(variance > 0, variance, 1.0)
    values: Floats = 1 - missed.mean(axis=1)
    return values


def _absolute_errors(predictions: RegressionPredictions) -> Floats:
    values: Floats = np.abs(predictions.residuals).mean(axis=1)
    return values


def _mcnemar_of_differences(differences: Floats) -> float:
    return mcnemar_test(int((differences > 0).sum()), int((differences < 0).sum()))


ACCURACY_CRITERION = Criterion(
    score="test/accuracy",
    cost="test/loss",
    scores=_accuracies,
    costs=lambda predictions: predictions.losses,
    wins_label="right alone",
    test=_mcnemar_of_differences,
    explanation="Right alone: samples that only the first predicts correctly, and only the second. p by McNemar's test "
    "(1947, mid-p)",
)
R2_CRITERION = Criterion(
    score="test/r2",
    cost="test/mae",
    scores=_explained_variances,
    costs=_absolute_errors,
    wins_label="nearer",
    test=sign_flip_test,
    explanation="Nearer: samples on which the first is nearer to the target, and the second. p by the sign-flip test "
    "(Fisher 1935)",
)


@dataclass(frozen=True)
class PairwiseTest:
    """A paired test of two networks, given by their positions; the first has the higher score or an equal one.

    wins, losses   samples on which the first scores higher, and the second
    difference     in score, and `cost_difference` in cost, each with its interval
    p_value        by the criterion's test, and `adjusted` for the number of pairs (Holm)
    """

    first: int
    second: int
    wins: int
    losses: int
    difference: float
    interval: Interval
    cost_difference: float
    cost_interval: Interval
    p_value: float
    adjusted: float

    @property
    def is_decided(self) -> bool:
        return self.adjusted < SIGNIFICANCE


def criterion_of(networks: Sequence[TestPredictions]) -> Criterion:
    """Return the criterion for networks that predict the same samples."""
    return R2_CRITERION if isinstance(networks[0], RegressionPredictions) else ACCURACY_CRITERION


def pairwise_tests(networks: Sequence[TestPredictions]) -> list[PairwiseTest]:
    """Test every pair, better network first; all must predict the same samples (`are_comparable`)."""
    criterion = criterion_of(networks)
    scores, costs = ([value(network) for network in networks] for value in (criterion.scores, criterion.costs))
    mean = [float(each.mean(dtype=np.float64)) for each in scores]
    pairs = [sorted(pair, key=lambda place: -mean[place]) for pair in combinations(range(len(networks)), 2)]
    all_differences = [scores[first] - scores[second] for first, second in pairs]
    p_values = [criterion.test(each) for each in all_differences]
    tests = []
    for (first, second), differences, p_value, adjusted in zip(
        pairs, all_differences, p_values, holm_adjusted(p_values), strict=True
    ):
        extra = costs[first] - costs[second]
        tests.append(
            PairwiseTest(
                first,
                second,
                wins=int((differences > 0).sum()),
                losses=int((differences < 0).sum()),
                difference=float(differences.mean(dtype=np.float64)),
                interval=interval_of_mean(differences),
                cost_difference=float(extra.mean(dtype=np.float64)),
                cost_interval=interval_of_mean(extra),
                p_value=p_value,
                adjusted=adjusted,
            )
        )
    return tests


def are_comparable(networks: Sequence[TestPredictions]) -> bool:
    """Return whether all predict the same samples."""
    first = networks[0]
    return all(each.digest == first.digest and np.array_equal(each.ids, first.ids) for each in networks[1:])


def conclusion(names: Sequence[str], networks: Sequence[TestPredictions], tests: Sequence[PairwiseTest]) -> str:
    """Return one sentence: the network with the highest score is best if it beats every other significantly."""
    scores = criterion_of(networks).scores
    best = max(range(len(names)), key=lambda place: float(scores(networks[place]).mean(dtype=np.float64)))
    beaten = {test.second for test in tests if test.is_decided and test.first == best}
    rivals = [names[place] for place in range(len(names)) if place not in beaten and place != best]
    if not rivals:
        return f"{names[best]} is the best"
    return NO_WINNER if not beaten else f"{NO_WINNER} among {names[best]} and {_join_names(rivals)}"


def _join_names(names: Sequence[str]) -> str:
    return " and ".join(names)
