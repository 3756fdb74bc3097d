"""Samples that are in two splits, which is leakage.

Sources warn of them, because each kind of data has its own rule for which samples are equal. Training samples that are
equal byte for byte can be left out.
"""

import hashlib
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.data.dataset import Split, Splits
from pipeline.data.loader import EvaluationLoader

ROWS_PER_BATCH = 4096  # a data set may be larger than memory

log = logging.getLogger(__name__)


def warn_of_duplicates(
    keys: Mapping[str, Sequence[Hashable]], what: str, name: Callable[[str, int], str] | None = None
) -> None:
    """Warn of samples that are in two splits: they make scores too good.

    keys  of the samples in each split, training first; two samples with the same key are duplicates
    name  returns the name of a sample from its split and row
    """
    for first, second in combinations(keys, 2):
        rows = {key: row for row, key in enumerate(keys[first])}
        duplicates = [row for row, key in enumerate(keys[second]) if key in rows]
        example = ""
        if duplicates and name is not None:
            row = duplicates[0]
            example = f", such as {name(second, row)} and {name(first, rows[keys[second][row]])}"
        _warn(len(duplicates), len(keys[second]), second, first, what, example)


def warn_of_equal_hashes(hashes: Mapping[str, npt.NDArray[np.uint64]], what: str) -> None:
    """Warn like warn_of_duplicates, with the memory of a few arrays for millions of samples."""
    for first, second in combinations(hashes, 2):
        duplicates = int(np.isin(hashes[second], hashes[first]).sum())
        _warn(duplicates, len(hashes[second]), second, first, what, "")


def _warn(duplicates: int, count: int, split: str, other: str, what: str, example: str) -> None:
    if duplicates:
        log.warning(
            f"{duplicates} of the {count} {split} {what} are in the {other} split, too{example}: the scores will be "
            "too good"
        )


def sample_digests(split: Split) -> list[bytes]:
    """Return a digest of each sample's inputs, (N,)."""
    batches = EvaluationLoader(split, batch_size=ROWS_PER_BATCH)
    return [digest for batch in batches for digest in row_digests(batch.inputs)]


def row_digests(rows: Tensor) -> list[bytes]:
    """Return a digest of each row of (N, ...), (N,)."""
    return [hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=16).digest() for row in rows.numpy()]


def drop_duplicates(splits: Splits) -> Splits:
    """Drop training samples that are in the validation or test split, too."""
    held_out = {*sample_digests(splits.validation), *sample_digests(splits.test)}
    rows = [row for row, digest in enumerate(sample_digests(splits.train)) if digest not in held_out]
    return replace(splits, train=splits.train.rows(torch.tensor(rows, dtype=torch.int64)))
