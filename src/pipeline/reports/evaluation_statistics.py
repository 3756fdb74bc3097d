"""Scores of a test set, their confidence intervals, calibration and significance tests: pure functions of arrays."""

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
FLIPPED_AT_MOST = 10_000  # independent signs
CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
BINS = 15


@dataclass(frozen=True)
class Interval:
    """The confidence interval of a value, at the level CONFIDENCE."""

    low: float
    high: float


def interval_of_mean(values: Floats | Bools, *, seed: int = 0) -> Interval:
    """Return the percentile bootstrap interval (Efron 1979) of the mean of (N,) values, one a sample.

    The values may be accuracies, losses, or differences of two networks in either.
    """
    plain, size = values.astype(np.float32), len(values)
    resamples = max(min(RESAMPLES, DRAWS_AT_MOST // size), 100)
    at_a_time = max(BLOCK_DRAWS // size, 1)
    generator = np.random.default_rng(seed)
    means: list[Floats] = []
    for first in range(0, resamples, at_a_time):
        shape = (min(at_a_time, resamples - first), size)
        means.append(plain[generator.integers(0, size, shape, dtype=np.int32)].mean(axis=1, dtype=np.float64))
    return _percentile_interval(np.concatenate(means))


def r2(true: Floats, predicted: Floats) -> float:
    """Return the share of explained variance of (N, T) numbers, averaged over T."""
    missed = np.square(true - predicted, dtype=np.float64).sum(axis=0)
    varied = np.square(true - true.mean(axis=0), dtype=np.float64).sum(axis=0)
    return float((1 - missed / np.where(varied > 0, varied, np.nan)).mean())


def interval_of_r2(true: Floats, predicted: Floats, *, seed: int = 0) -> Interval:
    """Return the bootstrap interval of R2; the variance to explain is that of each resample."""
    generator, size = np.random.default_rng(seed), len(true)
    resamples = max(min(RESAMPLES, DRAWS_AT_MOST // size), 100)
    rows = (generator.integers(0, size, size) for _ in range(resamples))
    values = np.array([r2(true[each], predicted[each]) for each in rows])
    known = values[np.isfinite(values)]  # there is nothing to explain in a resample that does not vary
    return _percentile_interval(known if len(known) else values)


def interval_of_accuracy(correct: Bools) -> Interval:
    """Return the bootstrap interval of the accuracy.

    If all samples are correct, or none, resampling finds no spread, and the exact bound of Clopper & Pearson (1934) is
    returned.
    """
    bound = ((1 - CONFIDENCE) / 2) ** (1 / len(correct))
    if correct.all():
        return Interval(bound, 1.0)
    if not correct.any():
        return Interval(0.0, 1 - bound)
    return interval_of_mean(correct)


def interval_of_f1(counts: Ints, *, seed: int = 0) -> Interval:
    """Return the bootstrap interval of macro F1, from (K, K) counts.

    F1 depends only on the cells of the confusion matrix, so a resample of N samples is a multinomial draw of counts.
    """
    targets, predicted = counts.nonzero()
    shares = counts[targets, predicted] / counts.sum()
    by_prediction = np.argsort(predicted, kind="stable")
    generator = np.random.default_rng(seed)
    at_a_time = max(BLOCK_DRAWS // len(shares), 1)
    values: list[Floats] = []
    for first in range(0, RESAMPLES, at_a_time):
        drawn = generator.multinomial(counts.sum(), shares, size=min(at_a_time, RESAMPLES - first))
        support, named, hits = (np.zeros((len(drawn), len(counts))) for _ in range(3))
        support[:, np.unique(targets)] = np.add.reduceat(drawn, _starts(targets), axis=1)
        named[:, np.unique(predicted)] = np.add.reduceat(
            drawn[:, by_prediction], _starts(predicted[by_prediction]), axis=1
        )
        hits[:, targets[targets == predicted]] = drawn[:, targets == predicted]
        present = support + named > 0  # a class that was neither drawn nor predicted has no F1
        f1 = np.divide(2 * hits, support + named, out=np.zeros_like(hits), where=present)
        values.append(f1.sum(axis=1) / present.sum(axis=1))
    return _percentile_interval(np.concatenate(values))


def _starts(labels: Ints) -> Ints:
    """Return the positions at which runs of equal labels begin."""
    starts: Ints = np.flatnonzero(np.diff(labels, prepend=-1))
    return starts


def _percentile_interval(values: Floats) -> Interval:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class ClassScores:
    """Scores of each class, (K,) each; 0 where the denominator is 0."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Ints


def confusion(targets: Ints, predicted: Ints, *, classes: int) -> Ints:
    """Return (K, K) counts: rows are true classes, columns predicted ones."""
    counts: Ints = np.bincount(targets.astype(np.int64) * classes + predicted, minlength=classes**2)
    return counts.reshape(classes, classes)


def class_scores(counts: Ints) -> ClassScores:
    """Compute precision, recall and F1 from (K, K) counts."""
    return _scores(np.diag(counts), counts.sum(axis=1), counts.sum(axis=0))


def label_scores(targets: Bools, predicted: Bools) -> ClassScores:
    """Compute precision, recall and F1 of independent labels (N, K)."""
    return _scores((targets & predicted).sum(axis=0), targets.sum(axis=0), predicted.sum(axis=0))


def _scores(hits: Ints, support: Ints, predicted: Ints) -> ClassScores:
    def share(part: Ints, whole: Ints) -> Floats:
        return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)

    return ClassScores(share(hits, predicted), share(hits, support), share(2 * hits, support + predicted), support)


@dataclass(frozen=True)
class Calibration:
    """Counts, accuracy and confidence in BINS equal bins of confidence, (i / BINS, (i + 1) / BINS]; 0 in empty bins."""

    counts: Ints
    accuracy: Floats
    confidence: Floats

    @property
    def error(self) -> float:
        """The expected calibration error (Guo et al. 2017)."""
        return float((self.counts * np.abs(self.accuracy - self.confidence)).sum() / self.counts.sum())


def calibration(confidence: Floats, correct: Bools) -> Calibration:
    """Bin predictions by confidence; NaN counts as a confidence of 0."""
    sure = np.nan_to_num(confidence.astype(np.float64))
    bins = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    divisor = np.maximum(counts, 1)
    accuracy = np.bincount(bins, weights=correct, minlength=BINS) / divisor
    return Calibration(counts, accuracy, np.bincount(bins, weights=sure, minlength=BINS) / divisor)


def mcnemar_test(only_first: int, only_second: int) -> float:
    """Return the two-sided mid-p value of McNemar's test (McNemar 1947; Fagerland et al. 2013).

    `only_first` and `only_second` count the samples that only the one network, or only the other, predicts correctly.
    """
    discordant, fewer = only_first + only_second, min(only_first, only_second)
    below = sum(_binomial(count, discordant) for count in range(fewer))
    return 1.0 if only_first == only_second else min(2 * below + _binomial(fewer, discordant), 1.0)


def sign_flip_test(differences: Floats, *, seed: int = 0) -> float:
    """Return the two-sided p value of the sign-flip permutation test (Fisher 1935) on paired differences (N,).

    It draws FLIPS times. Beyond FLIPPED_AT_MOST samples, neighbours share a sign.
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


def _binomial(heads: int, tosses: int) -> float:
    """Return the binomial probability for a fair coin, by logarithms because the numbers exceed a float."""
    ways = math.lgamma(tosses + 1) - math.lgamma(heads + 1) - math.lgamma(tosses - heads + 1)
    return math.exp(ways - tosses * math.log(2))


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for their number (Holm 1979), in the order given."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(order):
        highest = max(highest, min((len(order) - place) * p_values[index], 1.0))
        adjusted[index] = highest
    return adjusted
