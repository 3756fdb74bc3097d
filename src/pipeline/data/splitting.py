"""Stratified splits, fractions and folds: functions of the labels and a seed alone."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigError

Indices = npt.NDArray[np.int64]


def stratified_order(labels: npt.NDArray[np.integer], *, seed: int) -> Indices:
    """Return all rows (N,), shuffled, with every class spread evenly from the first place to the last.

    So a stratified split is a cut of this order, and a shorter cut is a subset of a longer one. A class of n
    samples has one in each n-th of the order, at a random place therein.
    """
    # The raw output of PCG64, not Generator.permutation: numpy promises to keep only the former as it is.
    keys, jitter = np.random.PCG64(seed).random_raw(2 * len(labels)).reshape(2, -1)
    shuffled = np.argsort(keys, kind="stable")
    place = jitter / 2.0**64
    for name in np.unique(labels):
        members = shuffled[labels[shuffled] == name]
        place[members] = (np.arange(len(members)) + place[members]) / len(members)
    return np.argsort(place, kind="stable").astype(np.int64)


def split_rows(
    labels: npt.NDArray[np.integer],
    shares: Mapping[str, float],
    *,
    seed: int,
    groups: npt.NDArray[np.integer] | None = None,
    noun: str = "sample",
) -> dict[str, Indices]:
    """Return {split: its rows}: a share of all rows for each split that is named, the rest for `train`.

    Stratified; or of whole groups, one at least for each part, where `groups` (N,) 0 to G - 1 tells to which each row
    belongs. Raises ConfigError where a part would be empty.
    """
    if groups is None:
        counts = {part: round(share * len(labels)) for part, share in shares.items()}
        rows = _consecutive(stratified_order(labels, seed=seed), counts)
    else:
        order = stratified_order(np.zeros(groups.max() + 1, dtype=np.int64), seed=seed)
        chosen = _consecutive(order, {part: max(1, round(share * len(order))) for part, share in shares.items()})
        rows = {part: np.flatnonzero(np.isin(groups, some)).astype(np.int64) for part, some in chosen.items()}
    if min(map(len, rows.values())) < 1:
        asked = " and ".join(f"data.source.{part}_share={share:g}" for part, share in shares.items())
        counted = f"{len(labels)} {noun}s" + ("" if groups is None else f" in {groups.max() + 1} groups")
        if min(shares.values()) > 0 and sum(shares.values()) < 1:
            remedy = "add some, or make the shares larger"
        else:
            remedy = "expected more than 0 each, and less than 1 together, such as 0.2 and 0.2"
        raise ConfigError(f"{asked} of {counted} leave a part empty; {remedy}")
    return rows


def _consecutive(order: Indices, counts: Mapping[str, int]) -> dict[str, Indices]:
    """Cut an order into consecutive pieces of these `counts`; the rest is `train`."""
    pieces, start = {}, 0
    for part, count in counts.items():
        pieces[part], start = order[start : start + max(0, count)], start + max(0, count)
    return {"train": order[start:], **pieces}


def one_vs_rest(labels: Indices, names: tuple[str, ...], positive: str | None) -> tuple[Indices, tuple[str, ...]]:
    """Return labels (N,) and names of two classes, `positive` and the rest; unchanged where it is None."""
    if positive is None:
        return labels, names
    return (labels == names.index(positive)).astype(np.int64), (f"not {positive}", positive)


def stratified_fraction(labels: npt.NDArray[np.integer], fraction: float) -> Indices:
    """Return the rows of a stratified share (0 to 1] of all, ascending, at least one.

    Nested: a smaller fraction is a subset of a larger one. The same for every run, whatever its seed, so
    that runs with other seeds or other fractions can be compared.
    """
    count = max(1, round(fraction * len(labels)))
    return np.sort(stratified_order(labels, seed=0)[:count])


def cross_validation_fold(
    labels: npt.NDArray[np.integer],
    *,
    folds: int,
    fold: int,
    seed: int,
    groups: npt.NDArray[np.integer] | None = None,
) -> tuple[Indices, Indices]:
    """Return the rows to learn from and those to validate on, ascending: number `fold` (0 to folds - 1) of `folds`
    about equal ones, stratified; of whole groups where `groups` (N,) names them. Over all folds each
    row is validated on once."""
    if groups is not None:
        held = _fold_of_groups(labels, groups, folds=folds, seed=seed) == fold
        return np.flatnonzero(~held).astype(np.int64), np.flatnonzero(held).astype(np.int64)
    order = stratified_order(labels, seed=seed)
    bounds = [round(part * len(order) / folds) for part in (fold, fold + 1)]
    return np.sort(np.concatenate([order[: bounds[0]], order[bounds[1] :]])), np.sort(order[slice(*bounds)])


def _fold_of_groups(
    labels: npt.NDArray[np.integer], groups: npt.NDArray[np.integer], *, folds: int, seed: int
) -> Indices:
    """Return the fold of each row (N,). From the largest group to the smallest, each goes where it makes the folds'
    shares of all classes least unequal."""
    _, members = np.unique(groups, return_inverse=True)
    _, classes = np.unique(labels, return_inverse=True)
    counts = np.zeros((members.max() + 1, classes.max() + 1))
    np.add.at(counts, (members, classes), 1)
    shares = counts / counts.sum(0)
    order = stratified_order(np.zeros(len(shares), dtype=np.int64), seed=seed)
    largest_first = order[np.argsort(-counts[order].sum(1), kind="stable")]
    held, fold_of_group = np.zeros((folds, shares.shape[1])), np.empty(len(shares), dtype=np.int64)
    for group in largest_first:
        # Of the sum of squares what the group adds: (h + s)^2 - h^2.
        fold_of_group[group] = np.argmin(((2 * held + shares[group]) * shares[group]).sum(1))
        held[fold_of_group[group]] += shares[group]
    return fold_of_group[members]
