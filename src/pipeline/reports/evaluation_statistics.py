"""How sure one can be of what a test set says. Pure functions of arrays."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# N test samples, K classes, R resamples

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]

RESAMPLES = 1_000
DRAWS_AT_MOST = 100_000_000  # of all resamples together: a second or two
BLOCK_DRAWS = 1_000_000  # bounds the memory
FLIPS = 9_999
FLIPPED_AT_MOST = 10_000  # signs
CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
BINS = 15


@dataclass(frozen=True)
class Interval:
    """Where the value would lie, with a probability of CONFIDENCE, on other samples of the same kind."""

    low: float
    high: float


def interval_of_mean(values: Floats | Bools, *, seed: int = 0) -> Interval:
    """Of the mean of (N,) values, one a sample: accuracy, loss, or the difference of two networks in either.

    The percentile interval of the bootstrap (Efron 1979): of the means of N samples drawn again with replacement.
    """
    plain, size = values.astype(np.float32), len(values)
    resamples = max(min(RESAMPLES, DRAWS_AT_MOST // size), 100)
    at_a_time = max(BLOCK_DRAWS // size, 1)
    generator = np.random.default_rng(seed)
    means: list[Floats] = []
    for first in range(0, resamples, at_a_time):
        shape = (min(at_a_time, resamples - first), size)
        means.append(plain[generator.integers(0, size, shape, dtype=np.int32)].mean(axis=1, dtype=np.float64))
    return _middle(np.concatenate(means))


def r2(true: Floats, predicted: Floats) -> float:
    """Of (N, T) numbers: the share of their variance that is explained, the mean over T."""
    missed = np.square(true - predicted, dtype=np.float64).sum(axis=0)
    varied = np.square(true - true.mean(axis=0), dtype=np.float64).sum(axis=0)
    return float((1 - missed / np.where(varied > 0, varied, np.nan)).mean())


def interval_of_r2(true: Floats, predicted: Floats, *, seed: int = 0) -> Interval:
    """By bootstrap over the samples, which vary in what there is to be explained, too."""
    generator, size = np.random.default_rng(seed), len(true)
    resamples = max(min(RESAMPLES, DRAWS_AT_MOST // size), 100)
    rows = (generator.integers(0, size, size) for _ in range(resamples))
    values = np.array([r2(true[each], predicted[each]) for each in rows])
    known = values[np.isfinite(values)]  # there is nothing to explain in a resample that does not vary
    return _middle(known if len(known) else values)


def interval_of_accuracy(right: Bools) -> Interval:
    """Where all are right, or none, resampling finds no spread: there the exact bound of Clopper & Pearson (1934)."""
    bound = ((1 - CONFIDENCE) / 2) ** (1 / len(right))
    if right.all():
        return Interval(bound, 1.0)
    if not right.any():
        return Interval(0.0, 1 - bound)
    return interval_of_mean(right)


def interval_of_f1(counts: Ints, *, seed: int = 0) -> Interval:
    """Of the mean of the classes' F1, from (K, K) counts.

    Samples that were taken and judged alike are alike to F1, so a resample of N samples is a draw of their counts.
    """
    truth, said = counts.nonzero()
    shares = counts[truth, said] / counts.sum()
    by_said = np.argsort(said, kind="stable")
    generator = np.random.default_rng(seed)
    at_a_time = max(BLOCK_DRAWS // len(shares), 1)
    values: list[Floats] = []
    for first in range(0, RESAMPLES, at_a_time):
        drawn = generator.multinomial(counts.sum(), shares, size=min(at_a_time, RESAMPLES - first))
        support, predicted, hits = (np.zeros((len(drawn), len(counts))) for _ in range(3))
        support[:, np.unique(truth)] = np.add.reduceat(drawn, _starts(truth), axis=1)
        predicted[:, np.unique(said)] = np.add.reduceat(drawn[:, by_said], _starts(said[by_said]), axis=1)
        hits[:, truth[truth == said]] = drawn[:, truth == said]
        present = support + predicted > 0  # a class that nobody drew or named has no F1
        f1 = np.divide(2 * hits, support + predicted, out=np.zeros_like(hits), where=present)
        values.append(f1.sum(axis=1) / present.sum(axis=1))
    return _middle(np.concatenate(values))


def _starts(labels: Ints) -> Ints:
    """Where each run of equal labels begins."""
    starts: Ints = np.flatnonzero(np.diff(labels, prepend=-1))
    return starts


def _middle(values: Floats) -> Interval:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class ClassScores:
    """(K,) each; 0 where nothing was there to be divided by."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Ints


def confusion(targets: Ints, said: Ints, *, classes: int) -> Ints:
    """(K, K) counts: rows are the truth, columns what the network said."""
    counts: Ints = np.bincount(targets.astype(np.int64) * classes + said, minlength=classes**2)
    return counts.reshape(classes, classes)


def class_scores(counts: Ints) -> ClassScores:
    """From (K, K) counts."""
    return _scores(np.diag(counts), counts.sum(axis=1), counts.sum(axis=0))


def label_scores(true: Bools, said: Bools) -> ClassScores:
    """Of labels (N, K), any of which may hold."""
    return _scores((true & said).sum(axis=0), true.sum(axis=0), said.sum(axis=0))


def _scores(hits: Ints, support: Ints, predicted: Ints) -> ClassScores:
    def share(part: Ints, whole: Ints) -> Floats:
        return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)

    return ClassScores(share(hits, predicted), share(hits, support), share(2 * hits, support + predicted), support)


@dataclass(frozen=True)
class Calibration:
    """BINS equal bins of confidence, (i / BINS, (i + 1) / BINS]; accuracy and confidence are 0 in an empty one."""

    counts: Ints
    accuracy: Floats
    confidence: Floats

    @property
    def error(self) -> float:
        """The expected calibration error: how far confidence and accuracy are apart, by samples (Guo et al. 2017)."""
        return float((self.counts * np.abs(self.accuracy - self.confidence)).sum() / self.counts.sum())


def calibration(confidence: Floats, right: Bools) -> Calibration:
    """A network whose scores are no numbers is not sure at all."""
    sure = np.nan_to_num(confidence.astype(np.float64))
    bins = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    divisor = np.maximum(counts, 1)
    accuracy = np.bincount(bins, weights=right, minlength=BINS) / divisor
    return Calibration(counts, accuracy, np.bincount(bins, weights=sure, minlength=BINS) / divisor)


def mcnemar_test(only_first: int, only_second: int) -> float:
    """The two-sided mid-p value (McNemar 1947; Fagerland et al. 2013) that two networks are right equally often.

    Given how many samples only the first got right, and only the second; what both got right, or neither, says nothing.
    """
    discordant, fewer = only_first + only_second, min(only_first, only_second)
    below = sum(_heads(count, discordant) for count in range(fewer))
    return 1.0 if only_first == only_second else min(2 * below + _heads(fewer, discordant), 1.0)


def sign_flip_test(differences: Floats, *, seed: int = 0) -> float:
    """The two-sided p value that the paired differences (N,) of two networks are 0 on average: how often their sum is
    as far from 0 when a coin decides the sign of each (Fisher 1935), by FLIPS draws.

    Of many samples neighbours keep their sign together.
    """
    together = np.array_split(differences.astype(np.float64), min(len(differences), FLIPPED_AT_MOST))
    sums = np.array([each.sum() for each in together])
    generator = np.random.default_rng(seed)
    at_a_time = max(BLOCK_DRAWS // len(sums), 1)
    as_far = 0
    for first in range(0, FLIPS, at_a_time):
        signs = generator.integers(0, 2, (min(at_a_time, FLIPS - first), len(sums)), dtype=np.int8)
        # Equal sums in another order of adding differ in their last digits, and count as equal.
        as_far += int((np.abs((2.0 * signs - 1) @ sums) >= abs(sums.sum()) * (1 - 1e-9)).sum())
    return (as_far + 1) / (FLIPS + 1)


def _heads(heads: int, tosses: int) -> float:
    """The probability with a fair coin; by logarithms, because the numbers themselves are beyond a float."""
    ways = math.lgamma(tosses + 1) - math.lgamma(heads + 1) - math.lgamma(tosses - heads + 1)
    return math.exp(ways - tosses * math.log(2))


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Adjusted for their number (Holm 1979), in the order given: none below SIGNIFICANCE by chance alone but in 1 of
    20 such families."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(order):
        highest = max(highest, min((len(order) - place) * p_values[index], 1.0))
        adjusted[index] = highest
    return adjusted
