"""How far a run has been trained, read from its newest checkpoint without torch and without calling any code of it.

A checkpoint is a zip archive, in which a pickle holds everything except the values of the tensors.
"""

import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipeline.system.files import open_inside

PICKLE_NAME = "/data.pkl"
MAX_PICKLE_BYTES = 16 << 20  # a network with a thousand tensors needs about one million


@dataclass(frozen=True)
class CheckpointProgress:
    """How far a checkpoint is: finished epochs, optimiser steps.

    is_over   a callback, such as early stopping, ended training there, so training cannot go on from it
    """

    epochs: int
    steps: int
    is_over: bool


def read_checkpoint_progress(checkpoints: Path) -> CheckpointProgress | None:
    """Read the newest readable checkpoint; None if there is none."""
    for path in sorted(checkpoints.glob("step-*.ckpt"), reverse=True):
        progress = _progress_in(path)
        if progress is not None:
            return progress
    return None


def _progress_in(path: Path) -> CheckpointProgress | None:
    try:
        with open_inside(path.parent, path.name) as file, zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if name.endswith(PICKLE_NAME))
            with archive.open(name) as structure:
                content = structure.read(MAX_PICKLE_BYTES + 1)
        if len(content) > MAX_PICKLE_BYTES:
            return None
        checkpoint = _InertUnpickler(io.BytesIO(content)).load()
        states = [state for name, state in checkpoint["callbacks"].items() if name.startswith("Checkpointing")]
        is_over = any(state.get("is_over") is True for state in states)
        return CheckpointProgress(int(checkpoint["epoch"]), int(checkpoint["global_step"]), is_over)
    except Exception:  # noqa: BLE001  a damaged pickle may raise anything; training reports the damage
        return None


class _InertUnpickler(pickle._Unpickler):
    """An unpickler that calls nothing. In Python: the one in C allocates whatever size of memo a pickle asks for."""

    # BYTEARRAY8 allocates before it checks whether the bytes are there; torch writes none.
    dispatch: ClassVar = {
        code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]
    }

    def find_class(self, module_name: str, global_name: str, /) -> Callable[..., Any]:
        return _Placeholder

    def persistent_load(self, pid: Any) -> None:
        """Skip the values of a tensor."""


class _Placeholder(dict[Any, Any]):
    """Stands in for every class and function that a checkpoint names; keeps the items of an OrderedDict."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass
