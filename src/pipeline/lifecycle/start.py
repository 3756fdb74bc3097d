"""The parent of a run: freezes it, launches its processes, and stands by. No torch in here."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pipeline.config import compose, resolve
from pipeline.config.check import check
from pipeline.errors import RunError
from pipeline.files import write_atomically
from pipeline.launch.devices import process_count
from pipeline.launch.launcher import Launcher, Resources
from pipeline.lifecycle import environment
from pipeline.lifecycle import run as runs
from pipeline.lifecycle.run import Run
from pipeline.process import module_command
from pipeline.tracking import address, journal

# What may change when a run is taken up again: how long it goes on, where, and who hears of it.
MAY_CHANGE = (
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.accelerator",
    "checkpoint.every_n_steps",
    "checkpoint.every_n_minutes",
    "checkpoint.keep",
    "tracking.uri",
    "tracking.artifacts",
    "data.root",
)


def train(composed: compose.Composed, command: list[str]) -> int:
    """A new run of this configuration; its exit code."""
    config = composed.config
    if config.tracking.uri is not None:
        # Whoever reads the frozen configuration later may stand in another directory.
        config.tracking.uri = address.absolute(config.tracking.uri)
    if config.tracking.artifacts is not None and "://" not in config.tracking.artifacts:
        config.tracking.artifacts = str(Path(config.tracking.artifacts).absolute())
    run = runs.create(
        name=config.name,
        runs_dir=config.runs_dir,
        config_yaml=compose.to_yaml(config),
        overrides=composed.overrides,
        environment={"choices": composed.choices, **environment.describe(command)},
    )
    try:
        return _launch(run, config)
    finally:
        if not run.has_started:
            run.discard()


def resume(reference: str, overrides: list[str], runs_dir: str) -> int:
    """Go on with a run in its own directory, from its newest intact checkpoint; its exit code.

    Raises RunError for a run that has nothing left to do, and for overrides that would change what it means.
    """
    run = runs.find(reference, runs_dir)
    if journal.is_open(run.journal_path):
        raise RunError(f"{run.id} is being trained right now, by another process; wait for it, or end it first")
    config = run.config()
    for override in overrides:
        key, _, value = override.partition("=")
        if key not in MAY_CHANGE:
            raise RunError(
                f"{override} would make this another run; a resumed run may only change {', '.join(MAY_CHANGE)}. "
                f"For a new run with it: pipeline train {' '.join(_overrides_of(run))} {override}"
            )
        compose.update(config, key, value)
    check(config, run.config())
    result = run.result()
    if result is not None and result["status"] == "FINISHED" and not overrides:
        raise RunError(
            f"{run.id} is finished; to train it longer: "
            f"pipeline resume run={run.id} trainer.max_epochs={2 * int(config.trainer.max_epochs or 1)}"
        )
    if overrides:
        write_atomically(run.config_path, compose.to_yaml(config))
        with (run.folder / "overrides.txt").open("a", encoding="utf-8") as file:
            file.writelines(f"{override}\n" for override in overrides)
    return _launch(run, config)


def _launch(run: Run, config: DictConfig) -> int:
    launcher: Launcher = resolve.instantiate(config.launch, config)
    resources = Resources(
        nodes=int(config.trainer.get("num_nodes", 1)),
        processes_per_node=process_count(_plain(config.trainer.devices), config.trainer.accelerator),
    )
    return launcher.run(module_command("pipeline.lifecycle.rank", str(run.folder)), resources, run.folder)


def _overrides_of(run: Run) -> list[str]:
    return (run.folder / "overrides.txt").read_text(encoding="utf-8").splitlines()


def _plain(value: Any) -> Any:
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else value
