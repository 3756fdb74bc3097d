"""Samples that are in two splits, which is leakage: sources warn of them, each knowing best what makes two samples the
same; training samples that are the same byte for byte can be left out."""

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

ROWS_AT_A_TIME = 4096  # a set may be larger than memory

log = logging.getLogger(__name__)


def warn_of_duplicates(
    parts: Mapping[str, Sequence[Hashable]], what: str, name: Callable[[str, int], str] | None = None
) -> None:
    """Warn of samples that are in two splits: they make the score too good.

    `parts`: of each, training first, what tells a sample from others; `name`: what a sample of a part is called.
    """
    for one, other in combinations(parts, 2):
        seen = {sample: row for row, sample in enumerate(parts[one])}
        copies = [row for row, sample in enumerate(parts[other]) if sample in seen]
        if copies and name is not None:
            example = f", such as {name(other, copies[0])} and {name(one, seen[parts[other][copies[0]]])}"
        else:
            example = ""
        _warn(len(copies), len(parts[other]), other, one, what, example)


def warn_of_equal_hashes(parts: Mapping[str, npt.NDArray[np.uint64]], what: str) -> None:
    """Warn as warn_of_duplicates does, for millions of samples in the memory of a few arrays."""
    for one, other in combinations(parts, 2):
        copies = int(np.isin(parts[other], parts[one]).sum())
        _warn(copies, len(parts[other]), other, one, what, "")


def _warn(copies: int, count: int, part: str, other: str, what: str, example: str) -> None:
    if copies:
        log.warning(
            f"{copies} of the {count} {part} {what} stand in the {other} part, too{example}: the scores will be too "
            "good"
        )


def sample_digests(part: Split) -> list[bytes]:
    """Return a digest of each sample's inputs, (N,)."""
    batches = EvaluationLoader(part, batch_size=ROWS_AT_A_TIME)
    return [digest for batch in batches for digest in row_digests(batch.inputs)]


def row_digests(rows: Tensor) -> list[bytes]:
    """Return a digest of each row of (N, ...)."""
    return [hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=16).digest() for row in rows.numpy()]


def drop_duplicates(parts: Splits) -> Splits:
    """Leave training samples out that are in the validation or test split, too; those stay as they are."""
    held_out = {*sample_digests(parts.validation), *sample_digests(parts.test)}
    rows = [row for row, digest in enumerate(sample_digests(parts.train)) if digest not in held_out]
    return replace(parts, train=parts.train.rows(torch.tensor(rows, dtype=torch.int64)))
