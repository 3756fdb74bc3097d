"""Launch a run, new or resumed: choose its directory, freeze its configuration, start its processes. No torch here."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.config import compose, instantiate
from pipeline.config.checks.check_config import check_config
from pipeline.config.checks.cross_checks import LOCAL_LAUNCHERS
from pipeline.config.frozen import TrustPolicy
from pipeline.errors import DONE, ConfigError, RunError
from pipeline.launch.launcher import Launcher, Resources
from pipeline.lifecycle import resume
from pipeline.runs import environment, lock
from pipeline.runs import run_directory as runs
from pipeline.runs.environment import check_variables, ignored_variables
from pipeline.runs.find_run import NamedRun, find_run, find_weights
from pipeline.runs.run_directory import Run
from pipeline.runs.tracking_store import tracking_store_of
from pipeline.system.process import Rank, launch_id, module_command, rank_from_environment, unset_command
from pipeline.tracking import tracking_uri


def launch_training(composed: compose.Composed, command: list[str]) -> int:
    """Train a run of this configuration; return its exit code.

    The run is new, unless `auto_resume` or the id of the cluster job names an existing one. If a cluster has started
    this process as one of several, it becomes a process of the run; else it starts them and waits.
    """
    config = composed.config
    _make_absolute(config)
    if config.init_from is not None:
        config.init_from = str(find_weights(config.init_from, config.runs_dir))
    rank = rank_from_environment()
    if rank is None:
        _launcher_and_resources(config)  # raises an error before anything is written
    name = config.name if config.auto_resume else None if rank is None else launch_id()
    if name is None:
        if rank is not None and rank.world_size > 1:
            raise RunError(
                f"RANK={rank.rank} and WORLD_SIZE={rank.world_size} are set in the environment, as if this were one of "
                f"{rank.world_size} processes. {unset_command()}\nIf {rank.world_size} were started, tell them "
                f"which run is theirs:\n  name={config.name} auto_resume=true"
            )
        with _new_run(composed, command) as run:
            return _launch(run, config, rank)
    named_run = NamedRun(Path(config.runs_dir), name)
    trust = TrustPolicy(tuple(config.allow_packages))
    if rank is not None and not rank.is_first:
        return _join_named_run(named_run, config, rank, trust)
    with ExitStack() as stack:
        with named_run.locked():
            existing = named_run.find()
            if existing is not None and existing.is_finished and not config.auto_resume:
                existing = None  # from an earlier job that had the same id
            if existing is None:
                new = stack.enter_context(_new_run(composed, command))
                named_run.assign(new)
        if existing is None:
            return _launch(new, config, rank)
        existing = replace(existing, trust=trust)
        stack.enter_context(lock.run_lock(existing.folder, lock.TRAINED))
        changes = resume.changed_settings(existing.config(), config)
        for key, value in changes.items():
            resume.check_may_change(existing, key, value)
        return _launch_resumed(existing, config, [f"{key}={value}" for key, value in changes.items()], rank)


def resume_run(reference: str, overrides: list[str], runs_dir: str, packages: Sequence[str]) -> int:
    """Resume a run in its own directory, from its newest intact checkpoint; return its exit code.

    Raises RunError for a run that has nothing left to do, and for overrides that would make it another run.
    """
    check_variables(os.environ)
    run, rank = find_run(reference, runs_dir, packages=packages), rank_from_environment()
    if rank is not None and not rank.is_first:
        config = _changed_config(run, overrides)
        resume.wait_for_request(run, config)
        return _join_run(run, config, rank)
    with lock.run_lock(run.folder, lock.TRAINED):
        config = _changed_config(run, overrides)
        if run.is_finished and not overrides:
            raise RunError(resume.finished_message(run, config))
        return _launch_resumed(run, config, overrides, rank)


def _changed_config(run: Run, overrides: list[str]) -> DictConfig:
    """Return the run's configuration with these overrides. Raises UserError."""
    config = run.config()
    for override in overrides:
        key, _, value = override.partition("=")
        resume.check_may_change(run, key, value)
        compose.set_value(config, key, value)
    check_config(config, run.config())
    tracking_store_of(run, dict(override.split("=", 1) for override in overrides if "=" in override), verb="resume")
    _make_absolute(config)
    return config


def _launch_resumed(run: Run, config: DictConfig, overrides: list[str], rank: Rank | None) -> int:
    """Launch a run whose lock this process holds, unless it has nothing left to do."""
    resume.check_not_running(run)
    if not resume.has_work_left(run, config):
        print(resume.finished_message(run, config))
        return DONE
    return _launch(run, config, rank, overrides)


def _join_named_run(named_run: NamedRun, config: DictConfig, rank: Rank, trust: TrustPolicy) -> int:
    """Become one of the other processes of a run that the first process chooses."""

    def is_chosen(run: Run) -> bool:
        is_of_this_job = config.auto_resume or not run.is_finished  # an earlier job may have had the same id
        return is_of_this_job and not resume.changed_settings(
            resume.requested_config(replace(run, trust=trust)), config
        )

    run = replace(named_run.wait(rank=rank.rank, is_chosen=is_chosen), trust=trust)
    return _join_run(run, config, rank)


def _join_run(run: Run, config: DictConfig, rank: Rank) -> int:
    """Make the same checks as the first process, which prints the messages, and train."""
    if not resume.has_work_left(run, config):
        return DONE
    _check_processes(config, rank)
    return _train_in_this_process(run)


@contextmanager
def _new_run(composed: compose.Composed, command: list[str]) -> Iterator[Run]:
    """Create a run and hold its lock; remove its directory if it did not start."""
    config = composed.config
    for sentence in ignored_variables(os.environ, config.tracking, composed.overrides):
        print(f"note: {sentence}", file=sys.stderr)
    run = runs.create_run_directory(name=config.name, runs_dir=config.runs_dir)
    with lock.run_lock(run.folder, lock.TRAINED):
        runs.fill_run_directory(
            run,
            config_yaml=compose.to_yaml(config),
            overrides=composed.overrides,
            environment={"choices": composed.choices, **environment.describe_environment(command)},
        )
        try:
            yield run
        finally:
            if not run.has_started and not run.is_submitted:
                run.discard()


def _make_absolute(config: DictConfig) -> None:
    """Make paths absolute: the frozen configuration may be read from another working directory."""
    tracking, data = config.tracking, config.data
    if tracking.uri is not None and not OmegaConf.is_interpolation(tracking, "uri"):
        tracking.uri = tracking_uri.absolute_uri(tracking.uri)
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
        if not OmegaConf.is_interpolation(data, "root"):  # else the process that trains resolves it again
            data.root = str(folder)


def _launch(run: Run, config: DictConfig, rank: Rank | None, changes: Sequence[str] = ()) -> int:
    """Start the processes of the run, or become one of them, after all checks that need no torch."""
    if rank is not None:
        _check_processes(config, rank)
        resume.request_config(run, config, changes)
        try:
            return _train_in_this_process(run)
        finally:
            resume.withdraw_request(run)
    if not run.is_made_here and config.launch._target_ not in LOCAL_LAUNCHERS:
        raise RunError(
            f"{run.id} was not made here, and its launcher would run what its config.yaml says on a cluster; for a run "
            f"of yours that starts from its weights:\n  {resume.new_run_command(run)}"
        )
    launcher, resources = _launcher_and_resources(config)
    resume.request_config(run, config, changes)
    is_waiting = False
    try:
        command = module_command("pipeline.lifecycle.training_process", *run.process_arguments)
        code = launcher.run(command, resources, run.folder)
        is_waiting = run.is_submitted
        return code
    finally:
        if not is_waiting:
            resume.withdraw_request(run)


def _launcher_and_resources(config: DictConfig) -> tuple[Launcher, Resources]:
    """Build the launcher. Raises ConfigError for settings that it cannot launch."""
    launcher: Launcher = instantiate.instantiate(config.launch, config)
    resources = launcher.resources(
        devices=_as_list(config.trainer.devices),
        accelerator=config.trainer.accelerator,
        num_nodes=int(config.trainer.get("num_nodes", 1)),
    )
    _check_batch_size(config, resources)
    return launcher, resources


def _check_processes(config: DictConfig, rank: Rank) -> None:
    """Raise ConfigError if the configuration asks for other processes than the cluster has started."""
    devices = config.trainer.devices
    if isinstance(devices, int) and devices not in (-1, rank.local_world_size):
        raise ConfigError(
            f"trainer.devices={devices}, but {rank.local_world_size} processes were started on each node: leave it at "
            f"trainer.devices=auto, or start {devices} (torchrun --nproc-per-node={devices}, "
            f"srun --ntasks-per-node={devices})"
        )
    _check_batch_size(config, Resources(rank.nodes, rank.local_world_size))


def _train_in_this_process(run: Run) -> int:
    """Train in this process, which a cluster started; return the exit code."""
    from pipeline.lifecycle import training_process

    return training_process.run_training_process(run)


def _check_batch_size(config: DictConfig, resources: Resources) -> None:
    """Raise ConfigError for a batch that cannot be split over the processes, before a job waits in a queue."""
    batch_size = config.data.get("batch_size")
    processes = resources.nodes * resources.processes_per_node
    if isinstance(batch_size, int) and batch_size % processes != 0:
        next_multiple = -(-batch_size // processes) * processes
        raise ConfigError(
            f"data.batch_size={batch_size} cannot be split over {processes} processes ({resources.nodes} nodes with "
            f"{resources.processes_per_node} each); use a multiple of {processes}, such as {next_multiple}"
        )


def _as_list(value: Any) -> Any:
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else value
