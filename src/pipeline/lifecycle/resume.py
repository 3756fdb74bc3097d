"""What may change when a run is taken up again, and what would make it another run. No torch in here."""

import shlex
import time
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline import seal
from pipeline.config import compose
from pipeline.errors import RunError
from pipeline.files import write_atomically
from pipeline.lifecycle.run import OVERRIDES, Run
from pipeline.lifecycle.standing import UNKNOWN, launched_state
from pipeline.process import to_be_alone
from pipeline.tracking import journal

# How long it goes on, where, how often it saves, and who hears of it.
MAY_CHANGE = (
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
GROUPS_THAT_MAY_CHANGE = ("launch",)
PATIENCE_SECONDS, POLL_SECONDS = 120.0, 0.1
ORPHANS_SECONDS = 20.0
# Which run it is, not what it does.
NO_SETTING = ("auto_resume", "init_from", "runs_dir", "allow_packages")


def check_idle(run: Run) -> None:
    """Raises RunError for a run that is under way, or in a queue.

    Where only its parent was killed, its processes notice that and save: they are waited for, because a scheduler
    that repeats the command at once must not be refused.
    """
    deadline = time.monotonic() + ORPHANS_SECONDS
    while True:
        state, is_open = launched_state(run, run.config()), journal.is_open(run.journal_path)
        is_known = state not in (None, UNKNOWN)
        if is_open and (is_known or time.monotonic() > deadline):
            raise RunError(
                f"{run.id} is being trained right now, by another process; wait for it, or end it first: "
                f"pipeline cancel {run.id}"
            )
        if is_known:
            raise RunError(
                f"{run.id} is on its way already ({state}); wait for it, or end it first: pipeline cancel {run.id}"
            )
        if not is_open:
            return
        time.sleep(POLL_SECONDS)


def differences(before: DictConfig, now: DictConfig) -> dict[str, Any]:
    """{key: value} of `now` where it is not what it was; a key that is gone counts as null."""
    old, new = _flat(before), _flat(now)
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return {key: new.get(key) for key in keys if key.split(".")[0] not in NO_SETTING}


def check_may_change(run: Run, key: str, value: Any) -> None:
    """Raises RunError for a change that would make it another run, with the command for that one."""
    if key not in MAY_CHANGE and key.split(".")[0] not in GROUPS_THAT_MAY_CHANGE:
        raise RunError(
            f"{key}={value} would make {run.id} another run; a resumed run may only change {', '.join(MAY_CHANGE)} "
            f"and launch. For a new run that sets out from its weights:\n  {setting_out_from(run, f'{key}={value}')}"
        )


def setting_out_from(run: Run, *overrides: str) -> str:
    """What to type for a new run that begins with this one's weights."""
    return shlex.join(["pipeline", "train", *run.overrides(), *overrides, f"init_from={run.id}"])


def keep(run: Run, config: DictConfig, overrides: list[str]) -> None:
    """From now on this is what the run does; one of another user's stays theirs."""
    is_ours, so_far = run.is_made_here, run.overrides()
    try:
        write_atomically(run.folder / OVERRIDES, "".join(f"{each}\n" for each in [*so_far, *overrides]))
        write_atomically(run.config_path, compose.to_yaml(config))
    except OSError as problem:
        raise RunError(f"{run.folder} cannot be written: {problem.strerror} ({problem.filename2})") from problem
    if is_ours:
        seal.set_seal(run.folder)


def wait_for(run: Run, config: DictConfig) -> None:
    """Until the first process has kept this configuration. Raises RunError when that does not happen."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while run.config() != config:
        if time.monotonic() > deadline:
            raise RunError(
                f"{run.id}: process 0 has not written config.yaml within {PATIENCE_SECONDS:g} s. {to_be_alone()}"
            )
        time.sleep(POLL_SECONDS)


def _flat(config: DictConfig) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                walk(value, f"{path}.{key}" if path else str(key))
        else:
            found[path] = node

    walk(OmegaConf.to_container(config), "")
    return found
