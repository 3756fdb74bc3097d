"""Checkpoints written to the disk while training goes on."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.training import checkpoints

NICENESS = 10


class BackgroundWriter:
    """One checkpoint at a time, from a copy of its own: training waits for the copy, and for the checkpoint before.

    Until the new one is whole the one before it stands, so a kill costs steps, never the run. What goes wrong is
    raised by the next call, in the thread that trains.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint", initializer=_step_back)
        self._pending: Future[None] | None = None

    def write(self, checkpoint: dict[str, Any], path: Path, *, then: Callable[[], None]) -> None:
        """`then` runs when the file stands."""
        self.wait()
        own = on_cpu(checkpoint)

        def work() -> None:
            checkpoints.save(own, path)
            then()

        self._pending = self._pool.submit(work)

    def wait(self) -> None:
        """Until the file stands. Raises what went wrong with it."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()


def _step_back() -> None:
    """Training comes first where there are no cores to spare. Linux knows a priority of a single thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def on_cpu(value: Any, copies: dict[tuple[Any, ...], Tensor] | None = None) -> Any:
    """The same with copies of all tensors, in memory that nobody else writes to; what shared memory still does."""
    copies = {} if copies is None else copies
    if isinstance(value, Tensor):
        where = (value.untyped_storage().data_ptr(), value.storage_offset(), value.shape, value.stride(), value.dtype)
        if value.numel() == 0 or where not in copies:
            copies[where] = torch.empty_like(value, device="cpu").copy_(value.detach())
        return copies[where]
    if isinstance(value, dict):
        made = copy(value)  # an OrderedDict stays one
        made.update((key, on_cpu(item, copies)) for key, item in value.items())
        return made
    if type(value) in (list, tuple):
        return type(value)(on_cpu(item, copies) for item in value)
    return value
