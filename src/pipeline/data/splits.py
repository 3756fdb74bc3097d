"""Which samples go where: orders that depend on the labels and a seed, and on nothing else."""

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def stratified_order(labels: npt.NDArray[np.integer], *, seed: int) -> Indices:
    """All rows (N,), shuffled so that every class is spread evenly: in each run of consecutive places a class
    has its share of the whole to within two samples, in each run from the start to within one.

    So a stratified split is a cut of this order, and a shorter cut is a subset of a longer one.
    """
    # The raw output of PCG64, not Generator.permutation: numpy promises to keep the former for ever.
    keys = np.random.PCG64(seed).random_raw(len(labels))
    shuffled = np.argsort(keys, kind="stable")
    place = np.empty(len(labels))
    for name in np.unique(labels):
        members = shuffled[labels[shuffled] == name]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((keys, place)).astype(np.int64)


def fraction_of(labels: npt.NDArray[np.integer], fraction: float) -> Indices:
    """The rows of a stratified share (0 to 1] of all, ascending, at least one.

    Nested: a smaller fraction is a subset of a larger one. The same for every run, whatever its seed, so
    that runs with other seeds or other fractions can be compared.
    """
    count = max(1, round(fraction * len(labels)))
    return np.sort(stratified_order(labels, seed=0)[:count])
