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

NICENESS = 5  # enough: 300 MB are written in 2 s beside a training that uses all cores; with 10 in 5 s

Form = tuple[torch.Size, tuple[int, ...], torch.dtype]
Copies = dict[tuple[Any, ...], Tensor]  # by where they were copied from
Spare = dict[Form, list[Tensor]]


class BackgroundWriter:
    """One checkpoint at a time, from a copy of its own: training waits for the copy, and for the checkpoint before.

    Until the new one is whole the one before it stands, so a kill costs steps, never the run. What goes wrong is
    raised by the next call, in the thread that trains. The copy's memory is kept for the next one: to get 300 MB from
    the system takes four times as long as to fill them.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint", initializer=_step_back)
        self._pending: Future[None] | None = None
        self._spare: list[Tensor] = []

    def write(self, checkpoint: dict[str, Any], path: Path, *, then: Callable[[], None]) -> None:
        """`then` runs when the file stands."""
        self.wait()
        copies: Copies = {}
        own = on_cpu(checkpoint, copies, _by_form(self._spare))
        self._spare = list(copies.values())

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
        thread = threading.get_native_id()
        # A training that was started with `nice` may be further back already, from where only root comes forward.
        os.setpriority(os.PRIO_PROCESS, thread, max(os.getpriority(os.PRIO_PROCESS, thread), NICENESS))


def on_cpu(value: Any, copies: Copies, spare: Spare) -> Any:
    """The same with copies of all tensors, in memory that nobody else writes to; what shared memory still does.

    `copies` is filled with what was copied from where, out of `spare` where that has a tensor of the same form.
    """
    if isinstance(value, Tensor):
        where = (value.untyped_storage().data_ptr(), value.storage_offset(), *_form(value))
        if value.numel() == 0 or where not in copies:
            fitting = spare.get(_form(value))
            room = fitting.pop() if fitting else torch.empty_like(value, device="cpu")
            copies[where] = room.copy_(value.detach())
        return copies[where]
    if isinstance(value, dict):
        made = copy(value)  # an OrderedDict stays one
        made.update((key, on_cpu(item, copies, spare)) for key, item in value.items())
        return made
    if type(value) in (list, tuple):
        return type(value)(on_cpu(item, copies, spare) for item in value)
    return value


def _form(tensor: Tensor) -> Form:
    return tensor.shape, tensor.stride(), tensor.dtype


def _by_form(tensors: list[Tensor]) -> Spare:
    found: Spare = {}
    for tensor in tensors:
        found.setdefault(_form(tensor), []).append(tensor)
    return found
