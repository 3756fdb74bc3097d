"""Samples that stand in two parts: leakage, counted and warned of in the same words for every kind of data."""

import hashlib
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from pipeline.data.loading import EvaluationLoader
from pipeline.data.source import Part, Parts

ROWS_AT_A_TIME = 4096  # a set may be larger than memory

log = logging.getLogger(__name__)


def warn_of_copies(
    parts: Mapping[str, Sequence[Hashable]], what: str, name: Callable[[str, int], str] | None = None
) -> None:
    """A sample that is learned from and judged on alike makes the score too good.

    `parts`: of each, training first, what tells a sample from others; `name`: what a sample of a part is called.
    """
    for one, other in combinations(parts, 2):
        seen = {sample: row for row, sample in enumerate(parts[one])}
        copies = [row for row, sample in enumerate(parts[other]) if sample in seen]
        if copies:
            such_as = ""
            if name is not None:
                such_as = f", such as {name(other, copies[0])} and {name(one, seen[parts[other][copies[0]]])}"
            log.warning(
                f"{len(copies)} of the {len(parts[other])} {other} {what} stand in the {one} part, too{such_as}: the "
                "scores will be too good"
            )


def digests(part: Part) -> list[bytes]:
    """Of the inputs of each sample, (N,)."""
    batches = EvaluationLoader(part, batch_size=ROWS_AT_A_TIME)
    return [digest for batch in batches for digest in digests_of(batch.inputs)]


def digests_of(rows: Tensor) -> list[bytes]:
    """(N, ...) -> of each row."""
    return [hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=16).digest() for row in rows.numpy()]


def without_copies(parts: Parts) -> Parts:
    """Training samples that the network will be judged by are left out: the other parts stay what they are."""
    held_out = {*digests(parts.validation), *digests(parts.test)}
    rows = [row for row, digest in enumerate(digests(parts.train)) if digest not in held_out]
    return replace(parts, train=parts.train.rows(torch.tensor(rows, dtype=torch.int64)))
