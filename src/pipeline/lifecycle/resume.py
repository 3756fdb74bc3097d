"""What may change when a run is resumed, and what would make it another run. No torch here.

The requested configuration waits in `next/` of the run directory until training really goes on (`apply_request`). An
error before that leaves the run unchanged.
"""

import os
import shlex
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.config import compose
from pipeline.errors import RunError, UserError
from pipeline.runs.checkpoint_progress import CheckpointProgress, read_checkpoint_progress
from pipeline.runs.lock import ORPHANS_TIMEOUT_SECONDS
from pipeline.runs.run_directory import OVERRIDES, Run
from pipeline.runs.status import UNKNOWN, launcher_state
from pipeline.system import seal
from pipeline.system.process import unset_command
from pipeline.tracking import journal

# How long and where it trains, how often it saves, and where its metrics are sent.
CHANGEABLE_KEYS = (
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.accelerator",
    "trainer.strategy",
    "checkpoint.every_n_steps",
    "checkpoint.every_n_minutes",
    "checkpoint.keep",
    "batch.on_out_of_memory",
    "tracking.uri",
    "tracking.artifacts",
    "data.root",
)
CHANGEABLE_GROUPS = ("launch",)
REQUEST_TIMEOUT_SECONDS, POLL_SECONDS = 120.0, 0.1
# They say which run it is, not what it does.
IGNORED_KEYS = ("auto_resume", "init_from", "runs_dir", "allow_packages")


def check_not_running(run: Run) -> None:
    """Raise RunError for a run that is running, or in a queue.

    If only the parent process was killed, the training processes notice that and save. This waits for them, because a
    scheduler that repeats the command at once must not be refused.
    """
    deadline = time.monotonic() + ORPHANS_TIMEOUT_SECONDS
    while True:
        state, is_open = launcher_state(run, run.config()), journal.is_open(run.journal_path)
        is_known = state not in (None, UNKNOWN)
        if is_open and (is_known or time.monotonic() > deadline):
            raise RunError(
                f"{run.id} is being trained right now, by another process; wait for it, or end it first: "
                f"pipeline cancel {run.id}"
            )
        if is_known:
            raise RunError(
                f"{run.id} is already launched ({state}); wait for it, or end it first: pipeline cancel {run.id}"
            )
        if not is_open:
            return
        time.sleep(POLL_SECONDS)


def changed_settings(before: DictConfig, now: DictConfig) -> dict[str, Any]:
    """Return {key: value} of `now` where it differs from `before`; a key that is gone has the value null."""
    old, new = _flat_settings(before), _flat_settings(now)
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return {key: new.get(key) for key in keys if key.split(".")[0] not in IGNORED_KEYS}


def check_may_change(run: Run, key: str, value: Any) -> None:
    """Raise RunError, with the command for a new run, for a change that would make it another run."""
    if key not in CHANGEABLE_KEYS and key.split(".")[0] not in CHANGEABLE_GROUPS:
        raise RunError(
            f"{key}={value} would make {run.id} another run; a resumed run may only change "
            f"{', '.join(CHANGEABLE_KEYS)} and launch. For a new run that starts from its weights:\n"
            f"  {new_run_command(run, f'{key}={value}')}"
        )


def new_run_command(run: Run, *overrides: str) -> str:
    """Return the command for a new run that starts from this run's weights."""
    # auto_resume would find this run again, by its name.
    typed = [override for override in run.overrides() if not override.startswith("auto_resume=")]
    return shlex.join(["pipeline", "train", *typed, *overrides, f"init_from={run.id}"])


def has_work_left(run: Run, config: DictConfig) -> bool:
    """Return whether anything is left to train or test. Raises RunError if it was already trained for longer."""
    done, trainer = read_checkpoint_progress(run.checkpoints), config.trainer
    if done is not None:
        _check_not_shorter(run, done, "trainer.max_epochs", trainer.get("max_epochs"), done.epochs)
        _check_not_shorter(run, done, "trainer.max_steps", trainer.get("max_steps"), done.steps)
    if not run.is_finished:
        return True
    before = run.config().trainer
    is_as_long = all(trainer.get(key) == before.get(key) for key in ("max_epochs", "max_steps"))
    return not (is_as_long or (done is not None and _has_reached_limit(done, config)))


def finished_message(run: Run, config: DictConfig) -> str:
    """Return the message that nothing is left to do, with a command to go on."""
    done = read_checkpoint_progress(run.checkpoints)
    length = "" if done is None else f" after {done.epochs} epochs ({done.steps:,} steps)"
    if done is not None and done.is_over:
        return (
            f"{run.id} is finished: a callback, such as early stopping, ended its training{length}; nothing is "
            f"trained, and nothing changed. For a new run that starts from its weights:\n  {new_run_command(run)}"
        )
    return (
        f"{run.id} is finished{length}: nothing is trained, and nothing changed; to train it longer: "
        f"pipeline resume run={run.id} {_longer_limits(config, done)}"
    )


def _longer_limits(config: DictConfig, done: CheckpointProgress | None) -> str:
    """Double each limit that the run has: with only one of two doubled it would end where it ended."""
    epochs, steps = int(config.trainer.get("max_epochs") or 0), int(config.trainer.get("max_steps") or 0)
    limits = [f"trainer.max_steps={2 * max(steps, 0 if done is None else done.steps)}"] if steps > 0 else []
    if epochs > 0 or not limits:
        limits = [f"trainer.max_epochs={2 * max(epochs, 1 if done is None else done.epochs)}", *limits]
    return " ".join(limits)


def request_config(run: Run, config: DictConfig, overrides: Sequence[str]) -> None:
    """Write the configuration that the run shall have from its next start on. Raises RunError."""
    withdraw_request(run)
    if not overrides:
        return
    request = _request_of(run)
    try:
        request.folder.mkdir()
        request.write_config(compose.to_yaml(config), [*run.overrides(), *overrides])
    except OSError as problem:
        withdraw_request(run)
        raise RunError(f"{run.folder} cannot be written: {problem.strerror}") from problem


def requested_config(run: Run) -> DictConfig:
    """Return the requested configuration, or the run's own if none is requested."""
    request = _request_of(run)
    if request.config_path.exists():
        try:
            return request.config()
        except UserError:
            if request.config_path.exists():
                raise  # else the first process has just applied it
    return run.config()


def apply_request(run: Run) -> None:
    """Make the requested configuration the run's own. The run of another user stays theirs."""
    request = _request_of(run)
    if not request.config_path.exists():
        return
    # The seal was made by the process that requested it: the machine that trains may lack the key.
    for name in (OVERRIDES, run.config_path.name, *([seal.SEAL] if run.is_made_here else [])):
        with suppress(FileNotFoundError, IsADirectoryError):
            os.replace(request.folder / name, run.folder / name)
    withdraw_request(run)


def withdraw_request(run: Run) -> None:
    """Remove the requested configuration, if there is one."""
    shutil.rmtree(run.folder / seal.PENDING, ignore_errors=True)


def wait_for_request(run: Run, config: DictConfig) -> None:
    """Wait until the first process has requested this configuration. Raises RunError after REQUEST_TIMEOUT_SECONDS."""
    deadline = time.monotonic() + REQUEST_TIMEOUT_SECONDS
    while changed_settings(requested_config(run), config):
        if time.monotonic() > deadline:
            raise RunError(
                f"{run.id}: process 0 has not written config.yaml within {REQUEST_TIMEOUT_SECONDS:g} s. "
                f"{unset_command()}"
            )
        time.sleep(POLL_SECONDS)


def _request_of(run: Run) -> Run:
    return Run(run.folder / seal.PENDING, replace(run.trust, is_made_here=run.is_made_here))


def _check_not_shorter(run: Run, done: CheckpointProgress, key: str, limit: int | None, count: int) -> None:
    if limit is not None and 0 <= limit < count:
        raise RunError(
            f"{key}={limit}, but {run.id} has been trained for {done.epochs} epochs ({done.steps:,} steps) already: "
            f"expected {key}={count} or more"
        )


def _has_reached_limit(done: CheckpointProgress, config: DictConfig) -> bool:
    epochs, steps = config.trainer.get("max_epochs"), config.trainer.get("max_steps")
    by_epochs = epochs is not None and 0 <= epochs <= done.epochs
    by_steps = steps is not None and 0 <= steps <= done.steps
    return done.is_over or by_epochs or by_steps


def _flat_settings(config: DictConfig) -> dict[str, Any]:
    settings: dict[str, Any] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                walk(value, f"{path}.{key}" if path else str(key))
        else:
            settings[path] = node

    walk(OmegaConf.to_container(config), "")
    return settings
