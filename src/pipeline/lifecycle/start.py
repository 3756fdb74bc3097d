"""How a run begins and goes on: its directory is chosen and frozen, its processes are launched. No torch in here."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.config import compose, resolve
from pipeline.config.check import check
from pipeline.config.facts import HERE
from pipeline.config.frozen import Trust
from pipeline.errors import DONE, ConfigError, RunError
from pipeline.launch.launcher import Launcher, Resources
from pipeline.lifecycle import environment, resume
from pipeline.lifecycle import run as runs
from pipeline.lifecycle.claim import Claim
from pipeline.lifecycle.run import Run
from pipeline.lifecycle.store import store_of
from pipeline.lifecycle.variables import check_variables
from pipeline.process import Place, given_place, job, module_command, to_be_alone
from pipeline.tracking import address


def train(composed: compose.Composed, command: list[str]) -> int:
    """A run of this configuration; its exit code.

    A new one, unless `auto_resume` or the cluster's job says which run it is. Where a cluster started this process as
    one of many, it becomes a process of the run; else it starts them and stands by.
    """
    config = composed.config
    _make_absolute(config)
    if config.init_from is not None:
        config.init_from = str(runs.weights(config.init_from, config.runs_dir))
    here = given_place()
    if here is None:
        _launcher_of(config)  # refuses before anything is written
    key = config.name if config.auto_resume else None if here is None else job()
    if key is None:
        if here is not None and here.world_size > 1:
            raise RunError(
                f"RANK={here.rank} and WORLD_SIZE={here.world_size} are set in the environment, as if this were one of "
                f"{here.world_size} processes. {to_be_alone()}\nIf {here.world_size} were started, tell them which run "
                f"is theirs:\n  name={config.name} auto_resume=true"
            )
        return _launch(_new(composed, command), config, here)
    claim = Claim(Path(config.runs_dir), key)
    trust = Trust(tuple(config.allow_packages))
    if here is not None and not here.is_first:
        return _become(replace(claim.wait(rank=here.rank), trust=trust), config, here)
    with claim.locked():
        run = claim.held()
        if run is not None and run.is_finished and not config.auto_resume:
            run = None  # of an earlier job that had the same id
        if run is not None:
            run = replace(run, trust=trust)
            config, goes_on = _continued(run, config)
            if not goes_on:
                print(f"{run.id} is finished; to train it longer: pipeline resume run={run.id} trainer.max_epochs=...")
                return DONE
        else:
            run = _new(composed, command)
            claim.hold(run)
    return _launch(run, config, here)


def resume_run(reference: str, overrides: list[str], runs_dir: str, packages: Sequence[str]) -> int:
    """Go on with a run in its own directory, from its newest intact checkpoint; its exit code.

    Raises RunError for a run that has nothing left to do, and for overrides that would change what it means.
    """
    check_variables(os.environ)
    run, here = runs.find(reference, runs_dir, packages=packages), given_place()
    leads = here is None or here.is_first
    if leads:
        resume.check_idle(run)
    config = run.config()
    for override in overrides:
        key, _, value = override.partition("=")
        resume.check_may_change(run, key, value)
        compose.update(config, key, value)
    check(config, run.config())
    store_of(run, dict(override.split("=", 1) for override in overrides if "=" in override), verb="resume")
    _make_absolute(config)
    if leads and run.is_finished and not overrides:
        raise RunError(
            f"{run.id} is finished; to train it longer: "
            f"pipeline resume run={run.id} trainer.max_epochs={2 * int(config.trainer.max_epochs or 1)}"
        )
    if here is None:
        _launcher_of(config)  # refuses before anything is written
    if overrides and leads:
        resume.keep(run, config, overrides)
    if not leads:
        resume.wait_for(run, config)
    return _launch(run, config, here)


def _continued(run: Run, config: DictConfig) -> tuple[DictConfig, bool]:
    """The configuration with which the run goes on, and whether there is anything left to do."""
    resume.check_idle(run)
    changes = resume.differences(run.config(), config)
    for key, value in changes.items():
        resume.check_may_change(run, key, value)
    if changes:
        resume.keep(run, config, [f"{key}={value}" for key, value in changes.items()])
    return config, bool(changes) or not run.is_finished


def _new(composed: compose.Composed, command: list[str]) -> Run:
    config = composed.config
    return runs.create(
        name=config.name,
        runs_dir=config.runs_dir,
        config_yaml=compose.to_yaml(config),
        overrides=composed.overrides,
        environment={"choices": composed.choices, **environment.describe(command)},
    )


def _make_absolute(config: DictConfig) -> None:
    """Whoever reads the frozen configuration later may stand in another directory."""
    tracking, data = config.tracking, config.data
    if tracking.uri is not None and not OmegaConf.is_interpolation(tracking, "uri"):
        tracking.uri = address.absolute(tracking.uri)
    is_folder = tracking.artifacts is not None and "://" not in tracking.artifacts
    if is_folder and not OmegaConf.is_interpolation(tracking, "artifacts"):
        tracking.artifacts = str(Path(tracking.artifacts).absolute())
    root = data.get("root")
    if root is not None:
        folder = Path(root).expanduser().absolute()
        if not folder.exists():
            print(
                f"warning: data.root={folder} is not on this machine; expected it where training runs", file=sys.stderr
            )
        if not OmegaConf.is_interpolation(data, "root"):  # out of the environment, where it is read again
            data.root = str(folder)


def _launch(run: Run, config: DictConfig, here: Place | None) -> int:
    if here is not None:
        return _become(run, config, here)
    if not run.is_made_here and config.launch._target_ not in HERE:
        raise RunError(
            f"{run.id} was not made here, and its launcher would run what its config.yaml says on a cluster; for a run "
            f"of yours that sets out from its weights:\n  {resume.setting_out_from(run)}"
        )
    try:
        launcher, resources = _launcher_of(config)
        return launcher.run(module_command("pipeline.lifecycle.rank", *run.words), resources, run.folder)
    finally:
        if not run.has_started and not run.is_submitted:
            run.discard()


def _launcher_of(config: DictConfig) -> tuple[Launcher, Resources]:
    """Raises ConfigError for settings that it cannot launch."""
    launcher: Launcher = resolve.instantiate(config.launch, config)
    resources = launcher.resources(
        devices=_plain(config.trainer.devices),
        accelerator=config.trainer.accelerator,
        num_nodes=int(config.trainer.get("num_nodes", 1)),
    )
    _check_shares(config, resources)
    return launcher, resources


def _become(run: Run, config: DictConfig, here: Place) -> int:
    """This process is one of the run's own, started by a cluster; its exit code.

    Raises ConfigError where the configuration asks for other processes than there are.
    """
    devices = config.trainer.devices
    if isinstance(devices, int) and devices not in (-1, here.local_world_size):
        raise ConfigError(
            f"trainer.devices={devices}, but {here.local_world_size} processes were started on each node: leave it at "
            f"trainer.devices=auto, or start {devices} (torchrun --nproc-per-node={devices}, "
            f"srun --ntasks-per-node={devices})"
        )
    from pipeline.lifecycle import rank

    try:
        return rank.work(run)
    finally:
        if not run.has_started:
            run.discard()


def _check_shares(config: DictConfig, resources: Resources) -> None:
    """Raises ConfigError for a batch that cannot be shared out, before a job waits in a queue for it."""
    batch_size = config.data.get("batch_size")
    processes = resources.nodes * resources.processes_per_node
    if isinstance(batch_size, int) and batch_size % processes != 0:
        enough = -(-batch_size // processes) * processes
        raise ConfigError(
            f"data.batch_size={batch_size} cannot be split over {processes} processes ({resources.nodes} nodes with "
            f"{resources.processes_per_node} each); use a multiple of {processes}, such as {enough}"
        )


def _plain(value: Any) -> Any:
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else value
