"""Samples that stand in two parts, byte for byte; of every kind of data."""

import hashlib
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pipeline.data.loading import EvaluationLoader
from pipeline.data.source import Part, Parts

ROWS_AT_A_TIME = 4096  # a set may be larger than memory


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
