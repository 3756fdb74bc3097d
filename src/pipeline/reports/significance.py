"""Which of several networks is better on the same test samples, and whether that is more than chance."""

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
    """By what networks are told apart.

    score, cost    metrics of the test set, each the mean of what the next two say of each sample (N,)
    alone          what a sample is to the one that scores higher on it
    test           the p value of differences in score (N,)
    """

    score: str
    cost: str
    scores: Callable[[Any], Floats]
    costs: Callable[[Any], Floats]
    alone: str
    test: Callable[[Floats], float]
    explained: str


def _correct(said: ClassPredictions | MultilabelPredictions) -> Floats:
    return said.right.astype(np.float32)


def _explained(said: RegressionPredictions) -> Floats:
    """Whose mean is R2: 1 less the squared errors (N, T), in units of the variance of what is true."""
    variance = said.true.var(axis=0, dtype=np.float64)
    missed = np.square(said.residuals, dtype=np.float64) / np.where(variance > 0, variance, 1.0)
    found: Floats = 1 - missed.mean(axis=1)
    return found


def _missed(said: RegressionPredictions) -> Floats:
    found: Floats = np.abs(said.residuals).mean(axis=1)
    return found


def _counted(gained: Floats) -> float:
    return mcnemar_test(int((gained > 0).sum()), int((gained < 0).sum()))


ACCURACY_CRITERION = Criterion(
    score="test/accuracy",
    cost="test/loss",
    scores=_correct,
    costs=lambda said: said.losses,
    alone="right alone",
    test=_counted,
    explained="Right alone: samples that only the one got right, and only the other. p by McNemar's test (1947, mid-p)",
)
R2_CRITERION = Criterion(
    score="test/r2",
    cost="test/mae",
    scores=_explained,
    costs=_missed,
    alone="nearer",
    test=sign_flip_test,
    explained="Nearer: samples on which the one was nearer to the truth, and the other. p by the exchange of signs "
    "(Fisher 1935)",
)


@dataclass(frozen=True)
class PairwiseTest:
    """Of two networks, by their places; the first scores at least as high.

    won, lost      samples on which the first scores higher, and the second
    difference     in score, `cost_difference` in cost, each with its interval
    p_value        by the measure's test, `adjusted` for the number of duels (Holm)
    """

    first: int
    second: int
    won: int
    lost: int
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
    """Of networks that judged the same samples."""
    return R2_CRITERION if isinstance(networks[0], RegressionPredictions) else ACCURACY_CRITERION


def pairwise_tests(networks: Sequence[TestPredictions]) -> list[PairwiseTest]:
    """Every pair, better network first. All must have judged the same samples (`are_comparable`)."""
    measure = criterion_of(networks)
    scores, costs = ([of(each) for each in networks] for of in (measure.scores, measure.costs))
    mean = [float(each.mean(dtype=np.float64)) for each in scores]
    pairs = [sorted(pair, key=lambda place: -mean[place]) for pair in combinations(range(len(networks)), 2)]
    gains = [scores[first] - scores[second] for first, second in pairs]
    p_values = [measure.test(each) for each in gains]
    found = []
    for (first, second), gained, p_value, adjusted in zip(pairs, gains, p_values, holm_adjusted(p_values), strict=True):
        extra = costs[first] - costs[second]
        found.append(
            PairwiseTest(
                first,
                second,
                won=int((gained > 0).sum()),
                lost=int((gained < 0).sum()),
                difference=float(gained.mean(dtype=np.float64)),
                interval=interval_of_mean(gained),
                cost_difference=float(extra.mean(dtype=np.float64)),
                cost_interval=interval_of_mean(extra),
                p_value=p_value,
                adjusted=adjusted,
            )
        )
    return found


def are_comparable(networks: Sequence[TestPredictions]) -> bool:
    """Whether they judged the same samples."""
    first = networks[0]
    return all(each.digest == first.digest and np.array_equal(each.ids, first.ids) for each in networks[1:])


def conclusion(names: Sequence[str], networks: Sequence[TestPredictions], fought: Sequence[PairwiseTest]) -> str:
    """In one sentence: the highest score has won if it beats every other beyond chance; else these share its place."""
    scores = criterion_of(networks).scores
    best = max(range(len(names)), key=lambda place: float(scores(networks[place]).mean(dtype=np.float64)))
    beaten = {duel.second for duel in fought if duel.is_decided and duel.first == best}
    rivals = [names[place] for place in range(len(names)) if place not in beaten and place != best]
    if not rivals:
        return f"{names[best]} is the best"
    return NO_WINNER if not beaten else f"{NO_WINNER} among {names[best]} and {_listed(rivals)}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)
