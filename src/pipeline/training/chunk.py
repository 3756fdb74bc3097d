"""What a loader hands to a Learner, ours or a user's own."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch

from pipeline.spec import Batch


class Chunk(Protocol):
    """Consecutive optimiser steps, up to a point of logging; each is a list of its micro-batches."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[Batch]]: ...


def as_chunk(batch: Any, batch_idx: int) -> Chunk:
    """Our loader's chunk as it is; a batch (inputs, targets) of a user's own loader as a single step."""
    return [[as_batch(batch, batch_idx)]] if isinstance(batch, tuple | list | Batch) else batch


def as_batch(batch: Any, batch_idx: int) -> Batch:
    if isinstance(batch, Batch):
        return batch
    inputs, targets = batch
    # A user's loader does not say which rows it took; the batch's number keeps their order.
    return Batch(inputs, targets, torch.full((len(targets),), batch_idx, device=targets.device))
