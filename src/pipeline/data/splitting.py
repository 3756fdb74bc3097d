"""Stratified splits, fractions and folds: functions of the labels and a seed alone."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from pipeline.errors import ConfigError

Indices = npt.NDArray[np.int64]
FIXED_SEED = 0  # of splits that are the same for all runs, whatever their own seed


def stratified_order(labels: npt.NDArray[np.integer], *, seed: int) -> Indices:
    """Return all rows (N,), shuffled, with every class spread evenly from the beginning to the end.

    A stratified split is then a slice of this order, and a shorter slice from the beginning is a subset of a longer
    one. A class of n samples has one in each n-th of the order, at a random position in it.
    """
    # The raw output of PCG64, not Generator.permutation: numpy guarantees stability for the former alone.
    keys, jitter = np.random.PCG64(seed).random_raw(2 * len(labels)).reshape(2, -1)
    shuffled = np.argsort(keys, kind="stable")
    position = jitter / 2.0**64
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        position[members] = (np.arange(len(members)) + position[members]) / len(members)
    return np.argsort(position, kind="stable").astype(np.int64)


def split_rows(
    labels: npt.NDArray[np.integer],
    shares: Mapping[str, float],
    *,
    seed: int,
    groups: npt.NDArray[np.integer] | None = None,
    noun: str = "sample",
) -> dict[str, Indices]:
    """Return {split: its rows}: a share of all rows for each split in `shares`, the rest for `train`.

    The splits are stratified by `labels` (N,); with `groups` (N,) of 0 to G - 1 each has whole groups, at least one.
    Raises ConfigError where a split would be empty.
    """
    if groups is None:
        counts = {split: round(share * len(labels)) for split, share in shares.items()}
        rows = _consecutive(stratified_order(labels, seed=seed), counts)
    else:
        order = stratified_order(np.zeros(groups.max() + 1, dtype=np.int64), seed=seed)
        chosen = _consecutive(order, {split: max(1, round(share * len(order))) for split, share in shares.items()})
        rows = {split: np.flatnonzero(np.isin(groups, some)).astype(np.int64) for split, some in chosen.items()}
    if min(map(len, rows.values())) < 1:
        options = " and ".join(f"data.source.{split}_share={share:g}" for split, share in shares.items())
        total = f"{len(labels)} {noun}s" + ("" if groups is None else f" in {groups.max() + 1} groups")
        if min(shares.values()) > 0 and sum(shares.values()) < 1:
            remedy = "add some, or make the shares larger"
        else:
            remedy = "expected more than 0 each, and less than 1 together, such as 0.2 and 0.2"
        raise ConfigError(f"{options} of {total} leave a split empty; {remedy}")
    return rows


def _consecutive(order: Indices, counts: Mapping[str, int]) -> dict[str, Indices]:
    """Divide an order into consecutive slices of these `counts`; the rest is `train`."""
    slices, start = {}, 0
    for split, count in counts.items():
        slices[split], start = order[start : start + max(0, count)], start + max(0, count)
    return {"train": order[start:], **slices}


def factorize(values: ArrayLike) -> Indices:
    """Return (N,): the number of each value among the distinct values, which are sorted."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def one_vs_rest(labels: Indices, names: tuple[str, ...], positive: str | None) -> tuple[Indices, tuple[str, ...]]:
    """Return labels (N,) and names of two classes, `positive` and all others; None leaves both unchanged."""
    if positive is None:
        return labels, names
    return (labels == names.index(positive)).astype(np.int64), (f"not {positive}", positive)


def stratified_fraction(labels: npt.NDArray[np.integer], fraction: float) -> Indices:
    """Return the rows of a stratified share (0 to 1] of all, ascending, at least one.

    A smaller fraction is a subset of a larger one. All runs have the same rows, whatever their seed, so that runs with
    other seeds or fractions can be compared.
    """
    count = max(1, round(fraction * len(labels)))
    return np.sort(stratified_order(labels, seed=FIXED_SEED)[:count])


def cross_validation_fold(
    labels: npt.NDArray[np.integer],
    *,
    folds: int,
    fold: int,
    seed: int,
    groups: npt.NDArray[np.integer] | None = None,
) -> tuple[Indices, Indices]:
    """Return the training and the validation rows of number `fold` (0 to folds - 1) of `folds`, ascending.

    The folds are stratified and about equal; with `groups` (N,) each has whole groups. Each row is in the validation
    rows of one fold.
    """
    if groups is not None:
        is_validation = _fold_of_groups(labels, groups, folds=folds, seed=seed) == fold
        return np.flatnonzero(~is_validation).astype(np.int64), np.flatnonzero(is_validation).astype(np.int64)
    order = stratified_order(labels, seed=seed)
    bounds = [round(number * len(order) / folds) for number in (fold, fold + 1)]
    return np.sort(np.concatenate([order[: bounds[0]], order[bounds[1] :]])), np.sort(order[slice(*bounds)])


def _fold_of_groups(
    labels: npt.NDArray[np.integer], groups: npt.NDArray[np.integer], *, folds: int, seed: int
) -> Indices:
    """Return the fold of each row (N,).

    From the largest group to the smallest, each is added to the fold where the folds' shares of all classes become
    least unequal.
    """
    members, classes = factorize(groups), factorize(labels)
    counts = np.zeros((members.max() + 1, classes.max() + 1))
    np.add.at(counts, (members, classes), 1)
    shares = counts / counts.sum(0)
    order = stratified_order(np.zeros(len(shares), dtype=np.int64), seed=seed)
    largest_first = order[np.argsort(-counts[order].sum(1), kind="stable")]
    totals, fold_of_group = np.zeros((folds, shares.shape[1])), np.empty(len(shares), dtype=np.int64)
    for group in largest_first:
        # How much the group adds to the sum of squares: (t + s)^2 - t^2.
        fold_of_group[group] = np.argmin(((2 * totals + shares[group]) * shares[group]).sum(1))
        totals[fold_of_group[group]] += shares[group]
    return fold_of_group[members]
