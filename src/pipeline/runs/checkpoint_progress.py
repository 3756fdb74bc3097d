"""How far a run has been trained, from its newest checkpoint. Read without torch, and without calling anything of it.

A checkpoint is a zip archive, in which a pickle holds all but the numbers of the tensors.
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
MAX_PICKLE_BYTES = 16 << 20  # of all but the numbers; of a network with a thousand tensors about one million


@dataclass(frozen=True)
class CheckpointProgress:
    """epochs    whole ones
    steps     optimiser steps
    is_over   a callback, such as early stopping, ended training there: from there it does not go on
    """

    epochs: int
    steps: int
    is_over: bool


def read_checkpoint_progress(checkpoints: Path) -> CheckpointProgress | None:
    """None before the first checkpoint, and where none can be read."""
    for path in sorted(checkpoints.glob("step-*.ckpt"), reverse=True):
        found = _progress_in(path)
        if found is not None:
            return found
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
        own = [state for name, state in checkpoint["callbacks"].items() if name.startswith("Checkpointing")]
        is_over = any(state.get("is_over") is True for state in own)
        return CheckpointProgress(int(checkpoint["epoch"]), int(checkpoint["global_step"]), is_over)
    except Exception:  # noqa: BLE001  a damaged pickle may raise anything; training finds the damage, and tells
        return None


class _InertUnpickler(pickle._Unpickler):
    """In Python, as the one in C makes room for whatever place of its memo a pickle names."""

    # A bytearray is made before it is known whether its bytes are there; torch writes none.
    dispatch: ClassVar = {
        code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]
    }

    def find_class(self, module_name: str, global_name: str, /) -> Callable[..., Any]:
        return _Placeholder

    def persistent_load(self, pid: Any) -> None:
        """The numbers of a tensor stay where they are."""


class _Placeholder(dict[Any, Any]):
    """In the place of every class and function that a checkpoint names; an OrderedDict keeps its items."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass
