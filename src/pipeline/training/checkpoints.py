"""Checkpoint files: written whole or not at all, and proven intact before they are used.

checkpoints/step-00000120.ckpt          everything that training needs to go on
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
    """Lightning's way to the disk, for every checkpoint of a run, also those of a user's own callbacks.

    `storage_options` is who writes it in place of this call: takes checkpoint and path.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        drop_objects(checkpoint)
        (save_checkpoint if storage_options is None else storage_options)(checkpoint, Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any = lambda storage, _: storage, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path), map_location=map_location)


class _HashingFile:
    """Takes the digest of what passes through, so that a large checkpoint is not read again."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def save_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """A reader, or a restart after `kill -9` at any moment, finds the whole file or none of that name."""
    path.parent.mkdir(exist_ok=True)  # not its parents: where a file system was lost they must not be made anew
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            hashing = _HashingFile(file)
            torch.save(checkpoint, hashing)  # type: ignore[arg-type]  # only write() and flush() are used
            file.flush()
            os.fsync(file.fileno())
        # The digest first: a checkpoint never stands without one.
        write_atomically(digest_path(path), f"{hashing.digest.hexdigest()}  {path.name}\n")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(path: Path, *, map_location: Any = "cpu") -> dict[str, Any]:
    """Plain values and tensors only (`weights_only`): a checkpoint can never run code.

    Raises RunError for a file that is missing, not what was saved, or no checkpoint.
    """
    real = path.resolve()
    problem = find_damage(real)
    if problem is not None:
        raise RunError(f"checkpoint {path} {problem}")
    try:
        checkpoint = torch.load(real, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise RunError(
            f"checkpoint {path} is not loaded: it holds more than numbers, text and tensors{_what(error)}, which could "
            "run any code; take one that `pipeline train` saved"
        ) from None
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError) as error:
        if "out of memory" in str(error):
            raise
        raise RunError(f"checkpoint {path} cannot be read ({first_line_of_error(error)}); take another one") from error
    if not isinstance(checkpoint, dict):
        raise RunError(f"checkpoint {path} holds no weights of a module; take one that `pipeline train` saved")
    return checkpoint


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint file, or None where it is proven to be what was saved.

    The proof is the digest beside it. Where that is lost or damaged, the sums that the file, a zip archive, has of all
    that is in it: a power cut may take the one and spare the other.
    """
    if path.exists() and not path.is_file():
        return "is no plain file"  # nobody waits for a pipe
    try:
        digest = _recorded(path)
        if digest is not None:
            intact = digest == sha256_of_file(path)
            return None if intact else "is truncated or altered: its SHA-256 is not the one recorded when it was saved"
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        return f"is truncated or altered, and has no digest beside it ({first_line_of_error(error)})"
    return None if wrong is None else f"is truncated or altered, and has no digest beside it ({wrong} is damaged)"


def _recorded(path: Path) -> str | None:
    """The digest beside a checkpoint, as far as it is one."""
    try:
        found = read_inside(path.parent, digest_path(path).name, max_bytes=MOST_BYTES_OF_DIGEST).split()[:1]
    except (OSError, ContentError):
        return None
    text = found[0].decode(errors="replace") if found else ""
    return text if DIGEST.fullmatch(text) else None


def _what(error: pickle.UnpicklingError) -> str:
    """Such as " (numpy.core.multiarray.scalar)", of the sixty lines that torch says."""
    found = GLOBAL.search(str(error))
    return "" if found is None else f" ({found[1]})"


def first_line_of_error(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def drop_objects(checkpoint: dict[str, Any]) -> None:
    """Of the hyperparameters that a module of the user's own saved: a checkpoint with objects in it is never loaded
    again, and the run's configuration has them all. Warns of what it holds elsewhere."""
    for key in HYPERPARAMETERS:
        saved = checkpoint.get(key, {})
        checkpoint |= (
            {key: {name: value for name, value in saved.items() if not any(find_objects(value))}} if saved else {}
        )
    for place in find_objects(checkpoint):
        _warn(f"checkpoints of this run hold {place}, so they cannot be loaded again: save plain values and tensors")


def find_objects(value: Any, place: str = "") -> Iterator[str]:
    """What `weights_only` refuses: where it is, and of which class."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from find_objects(each, f"{place}.{name}" if place else str(name))
    elif type(value) in (list, tuple, set):
        for index, each in enumerate(value):
            yield from find_objects(each, f"{place}.{index}")
    elif not isinstance(value, PLAIN):
        yield f"{place} ({type(value).__module__}.{type(value).__name__})"


@lru_cache(maxsize=100)
def _warn(sentence: str) -> None:
    """Once, not with each checkpoint."""
    log.warning("%s", sentence)


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    return sorted(folder.glob("step-*.ckpt"), reverse=True)


def newest_intact(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that is what was saved, and a sentence for each newer one that is not."""
    damaged: list[str] = []
    for path in list_checkpoints(folder):
        problem = find_damage(path)
        if problem is None:
            return path, damaged
        damaged.append(f"{path.name} {problem}")
    return None, damaged


def link_checkpoint(folder: Path, name: str, target: Path) -> None:
    """`name` points to `target` from one instant to the next."""
    temporary = folder / f".{name}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.name)
    os.replace(temporary, folder / name)


def prune_checkpoints(folder: Path, *, keep: int, besides: Path | None = None) -> None:
    """Leave the newest `keep` checkpoints, the best one, and that `besides`."""
    spared = {path.name for path in ((folder / "best.ckpt").resolve(), besides) if path is not None}
    for path in list_checkpoints(folder)[keep:]:
        if path.name not in spared:  # by name: a link may lead to the folder
            path.unlink()
            digest_path(path).unlink(missing_ok=True)


def remove_partial_files(folder: Path) -> None:
    """Remove what a process that was killed in the middle of a checkpoint left of it. Nobody else may be writing."""
    for path in (*folder.glob(".step-*.partial"), *folder.glob(".step-*.tmp")):
        path.unlink(missing_ok=True)


def evaluation_weights(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The weights to judge and use: their moving average where one was kept. Raises RunError where there are none."""
    weights = checkpoint.get("evaluation_state_dict") or checkpoint.get("state_dict")
    if not isinstance(weights, dict):
        raise RunError("the checkpoint holds no weights of a module; take one that `pipeline train` saved")
    return weights


def digest_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


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
        own = copy_to_cpu(checkpoint, copies, _by_form(self._spare))
        self._spare = list(copies.values())

        def work() -> None:
            save_checkpoint(own, path)
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


def copy_to_cpu(value: Any, copies: Copies, spare: Spare) -> Any:
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
        made.update((key, copy_to_cpu(item, copies, spare)) for key, item in value.items())
        return made
    if type(value) in (list, tuple):
        return type(value)(copy_to_cpu(item, copies, spare) for item in value)
    return value


def _form(tensor: Tensor) -> Form:
    return tensor.shape, tensor.stride(), tensor.dtype


def _by_form(tensors: list[Tensor]) -> Spare:
    found: Spare = {}
    for tensor in tensors:
        found.setdefault(_form(tensor), []).append(tensor)
    return found
