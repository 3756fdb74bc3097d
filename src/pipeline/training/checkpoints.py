"""Checkpoint files: written whole or not at all, and verified before they are used.

checkpoints/step-00000120.ckpt          all that training needs to go on
checkpoints/step-00000120.ckpt.sha256   its digest, in the format of `sha256sum`
checkpoints/last.ckpt, best.ckpt        links to two of them
"""

import hashlib
import logging
import os
import pickle
import re
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

from pipeline.errors import RunError
from pipeline.system.files import ContentError, read_inside, sha256_of_file, write_atomically

CHECKPOINT_NAME = "step-{:08d}.ckpt"
DIGEST = re.compile("[0-9a-f]{64}")
MOST_BYTES_OF_DIGEST = 4096
GLOBAL = re.compile(r"(?:Unsupported global: GLOBAL|Unsupported class|Trying to (?:call|load)[^`]*`?) ?([\w.]+)")
HYPERPARAMETERS = ("hyper_parameters", "datamodule_hyper_parameters")  # as Lightning names them
PLAIN = (torch.Tensor, int, float, complex, str, bytes, type(None), torch.Size, torch.dtype, torch.device)

log = logging.getLogger(__name__)


class VerifiedCheckpointIO(TorchCheckpointIO):
    """Read and write all checkpoints of a run for Lightning, also those of a user's own callbacks.

    `storage_options` is a function of checkpoint and path that writes the file instead, such as a BackgroundWriter.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        drop_objects(checkpoint)
        (save_checkpoint if storage_options is None else storage_options)(checkpoint, Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any = lambda storage, _: storage, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path), map_location=map_location)


class _HashingFile:
    """Compute the digest of what is written, so that a large checkpoint is not read again."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def save_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint and its digest.

    A reader, or a restart after `kill -9` at any moment, finds the whole file or none of that name.
    """
    path.parent.mkdir(exist_ok=True)  # not its parents: where a file system was lost they must not be created again
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            hashing = _HashingFile(file)
            torch.save(checkpoint, hashing)  # type: ignore[arg-type]  # only write() and flush() are used
            file.flush()
            os.fsync(file.fileno())
        # The digest first: a checkpoint is never without one.
        write_atomically(digest_path(path), f"{hashing.digest.hexdigest()}  {path.name}\n")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(path: Path, *, map_location: Any = "cpu") -> dict[str, Any]:
    """Load plain values and tensors only (`weights_only`), so that a checkpoint can never run code.

    Raise RunError for a file that is missing, damaged, or not a checkpoint.
    """
    real = path.resolve()
    damage = find_damage(real)
    if damage is not None:
        raise RunError(f"checkpoint {path} {damage}")
    try:
        checkpoint = torch.load(real, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise RunError(
            f"checkpoint {path} is not loaded: it holds more than numbers, text and tensors{_global(error)}, which "
            "could run any code; take one that `pipeline train` saved"
        ) from None
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError) as error:
        if "out of memory" in str(error):
            raise
        raise RunError(f"checkpoint {path} cannot be read ({first_line_of_error(error)}); take another one") from error
    if not isinstance(checkpoint, dict):
        raise RunError(f"checkpoint {path} holds no weights of a module; take one that `pipeline train` saved")
    return checkpoint


def find_damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint file, or None if it is what was saved.

    It is compared with the digest beside it. If that is lost or damaged, as after a power cut, with the checksums that
    the file, a zip archive, has of its content.
    """
    if path.exists() and not path.is_file():
        return "is no plain file"  # reading a pipe would wait forever
    try:
        digest = _recorded_digest(path)
        if digest is not None:
            intact = digest == sha256_of_file(path)
            return None if intact else "is truncated or altered: its SHA-256 is not the one recorded when it was saved"
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        return f"is truncated or altered, and has no digest beside it ({first_line_of_error(error)})"
    return None if damaged is None else f"is truncated or altered, and has no digest beside it ({damaged} is damaged)"


def _recorded_digest(path: Path) -> str | None:
    """Return the digest beside a checkpoint, or None if there is no valid one."""
    try:
        words = read_inside(path.parent, digest_path(path).name, max_bytes=MOST_BYTES_OF_DIGEST).split()[:1]
    except (OSError, ContentError):
        return None
    text = words[0].decode(errors="replace") if words else ""
    return text if DIGEST.fullmatch(text) else None


def _global(error: pickle.UnpicklingError) -> str:
    """Return such as " (numpy.core.multiarray.scalar)", from the sixty lines of torch's message."""
    match = GLOBAL.search(str(error))
    return "" if match is None else f" ({match[1]})"


def first_line_of_error(error: Exception) -> str:
    """Return the first line of the message, else the name of the class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def drop_objects(checkpoint: dict[str, Any]) -> None:
    """Remove objects from the hyperparameters that a user's own module saved, and warn of objects elsewhere.

    A checkpoint with objects in it cannot be loaded again; the run's configuration has all hyperparameters.
    """
    for key in HYPERPARAMETERS:
        saved = checkpoint.get(key, {})
        checkpoint |= (
            {key: {name: value for name, value in saved.items() if not any(find_objects(value))}} if saved else {}
        )
    for place in find_objects(checkpoint):
        _warn_once(
            f"checkpoints of this run hold {place}, so they cannot be loaded again: save plain values and tensors"
        )


def find_objects(value: Any, place: str = "") -> Iterator[str]:
    """Yield the place and class of each object that `weights_only` refuses."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from find_objects(item, f"{place}.{name}" if place else str(name))
    elif type(value) in (list, tuple, set):
        for index, item in enumerate(value):
            yield from find_objects(item, f"{place}.{index}")
    elif not isinstance(value, PLAIN):
        yield f"{place} ({type(value).__module__}.{type(value).__name__})"


@lru_cache(maxsize=100)
def _warn_once(message: str) -> None:
    log.warning("%s", message)


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, newest first."""
    return sorted(folder.glob("step-*.ckpt"), reverse=True)


def newest_intact(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint that is not damaged, and a sentence for each newer one that is."""
    damaged: list[str] = []
    for path in list_checkpoints(folder):
        problem = find_damage(path)
        if problem is None:
            return path, damaged
        damaged.append(f"{path.name} {problem}")
    return None, damaged


def link_checkpoint(folder: Path, name: str, target: Path) -> None:
    """Point `name` to `target`, atomically."""
    temporary = folder / f".{name}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.name)
    os.replace(temporary, folder / name)


def prune_checkpoints(folder: Path, *, keep: int, besides: Path | None = None) -> None:
    """Remove all but the newest `keep` checkpoints, the best one, and `besides`."""
    kept = {path.name for path in ((folder / "best.ckpt").resolve(), besides) if path is not None}
    for path in list_checkpoints(folder)[keep:]:
        if path.name not in kept:  # by name: a link may lead to the folder
            path.unlink()
            digest_path(path).unlink(missing_ok=True)


def remove_partial_files(folder: Path) -> None:
    """Remove what a process left that was killed while it wrote a checkpoint. No other process may be writing."""
    for path in (*folder.glob(".step-*.partial"), *folder.glob(".step-*.tmp")):
        path.unlink(missing_ok=True)


def evaluation_weights(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return the weights to evaluate and use: the average if there is one. Raise RunError if there are no weights."""
    weights = checkpoint.get("evaluation_state_dict") or checkpoint.get("state_dict")
    if not isinstance(weights, dict):
        raise RunError("the checkpoint holds no weights of a module; take one that `pipeline train` saved")
    return weights


def digest_path(path: Path) -> Path:
    """Return the path of the file with a checkpoint's digest."""
    return path.with_name(path.name + ".sha256")


NICENESS = 5  # enough: 300 MB are written in 2 s beside a training that uses all cores; with 10 in 5 s

Layout = tuple[torch.Size, tuple[int, ...], torch.dtype]  # shape, strides, type
Copies = dict[tuple[Any, ...], Tensor]  # by the memory they are copies of
Buffers = dict[Layout, list[Tensor]]  # memory to use again


class BackgroundWriter:
    """Write one checkpoint at a time in a thread, from a copy: training waits for the copy and the checkpoint before.

    The previous checkpoint stays until the new one is whole, so a kill costs steps, never the run. Errors are raised by
    the next call, in the thread that trains. The copy's memory is used again for the next one: to get 300 MB from the
    system takes four times as long as to fill them.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint", initializer=_lower_priority)
        self._pending: Future[None] | None = None
        self._buffers: list[Tensor] = []

    def write(self, checkpoint: dict[str, Any], path: Path, *, then: Callable[[], None]) -> None:
        """Write a copy of the checkpoint, and call `then` when the file is complete."""
        self.wait()
        copies: Copies = {}
        own = copy_to_cpu(checkpoint, copies, _by_layout(self._buffers))
        self._buffers = list(copies.values())

        def work() -> None:
            save_checkpoint(own, path)
            then()

        self._pending = self._pool.submit(work)

    def wait(self) -> None:
        """Wait until the file is complete. Raise what went wrong with it."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()


def _lower_priority() -> None:
    """Let training go first if no core is free. Linux has a priority for a single thread."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        # A training started with `nice` may have a lower priority already, which only root may raise.
        os.setpriority(os.PRIO_PROCESS, thread, max(os.getpriority(os.PRIO_PROCESS, thread), NICENESS))


def copy_to_cpu(value: Any, copies: Copies, buffers: Buffers) -> Any:
    """Return `value` with copies of all its tensors; tensors that share memory share it in the copy, too.

    `copies` is filled with the copies, made in tensors out of `buffers` where there is one of the same layout.
    """
    if isinstance(value, Tensor):
        source = (value.untyped_storage().data_ptr(), value.storage_offset(), *_layout(value))
        if value.numel() == 0 or source not in copies:
            fitting = buffers.get(_layout(value))
            buffer = fitting.pop() if fitting else torch.empty_like(value, device="cpu")
            copies[source] = buffer.copy_(value.detach())
        return copies[source]
    if isinstance(value, dict):
        copied = copy(value)  # an OrderedDict stays one
        copied.update((key, copy_to_cpu(item, copies, buffers)) for key, item in value.items())
        return copied
    if type(value) in (list, tuple):
        return type(value)(copy_to_cpu(item, copies, buffers) for item in value)
    return value


def _layout(tensor: Tensor) -> Layout:
    return tensor.shape, tensor.stride(), tensor.dtype


def _by_layout(tensors: list[Tensor]) -> Buffers:
    buffers: Buffers = {}
    for tensor in tensors:
        buffers.setdefault(_layout(tensor), []).append(tensor)
    return buffers
