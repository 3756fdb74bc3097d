"""Build Lightning's Trainer for the processes that the launcher has started, and check its callbacks."""

import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.precision import DoublePrecision, HalfPrecision, Precision
from rich.console import Console

from pipeline.config import instantiate
from pipeline.config.static import signature
from pipeline.data.datamodule import DataModule
from pipeline.errors import ConfigError
from pipeline.lifecycle.build import Components
from pipeline.run_files import ASSEMBLED
from pipeline.runs.run_directory import Run
from pipeline.system.process import Rank
from pipeline.training.callbacks.averaging import WeightAveraging
from pipeline.training.callbacks.checkpointing import Checkpointing
from pipeline.training.callbacks.hooks import BatchTransform
from pipeline.training.callbacks.monitored_metric import (
    DEFAULT_MONITOR,
    MonitorChoice,
    MonitorDiscovery,
    set_monitor,
    with_default_monitor,
)
from pipeline.training.callbacks.monitors import TimedCheckpointIO
from pipeline.training.callbacks.progress_bar import ProgressDisplay
from pipeline.training.distributed.sharding import ShardedStrategy
from pipeline.training.learner import Learner

# The network's first layer converts inputs to the type of its weights. Lightning would convert the whole batch, in
# place, and so round targets and category numbers.


class HalfWeights(HalfPrecision):
    def convert_input(self, data: Any) -> Any:
        return data


class DoubleWeights(DoublePrecision):
    def convert_input(self, data: Any) -> Any:
        return data


PRECISION_OF_WEIGHTS: dict[str, Callable[[], Precision]] = {
    "16-true": lambda: HalfWeights("16-true"),
    "bf16-true": lambda: HalfWeights("bf16-true"),
    "64-true": DoubleWeights,
    "64": DoubleWeights,  # Lightning's other name for it
}


log = logging.getLogger(__name__)

# Settings of the Trainer that apply to manual optimisation by the module only: here, by the Learner.
LEARNER_SETTINGS = ("gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches", "sync_batchnorm")


def build_trainer(
    config: DictConfig,
    *,
    components: Components,
    callbacks: list[pl.Callback],
    loggers: Any,
    folder: Path,
    rank: Rank,
) -> pl.Trainer:
    """Build the Trainer without Lightning's progress bar, checkpoints and launching, which are replaced by ours.

    Raises ConfigError for settings that Lightning refuses.
    """
    settings: dict[str, Any] = OmegaConf.to_container(config.trainer, resolve=True)  # type: ignore[assignment]
    settings.pop("_target_")
    plugins: list[Any] = [TimedCheckpointIO()]
    if isinstance(components.module, Learner):
        for name in LEARNER_SETTINGS:
            settings.pop(name, None)
        if str(settings.get("precision")) in PRECISION_OF_WEIGHTS:
            plugins.append(PRECISION_OF_WEIGHTS[str(settings.pop("precision"))]())
    elif settings.get("sync_batchnorm"):  # torch's SyncBatchNorm, which refuses the CPU
        settings["sync_batchnorm"] = torch.cuda.is_available() and settings.get("accelerator") != "cpu"
    # The processes are running already, so their number is known.
    if not isinstance(settings.get("devices"), list):
        settings["devices"] = rank.local_world_size
    settings["num_nodes"] = rank.nodes
    # Set explicitly: in a SLURM job Lightning would otherwise take over the signals and count the tasks itself.
    plugins.append(LightningEnvironment() if rank.world_size == 1 else TorchElasticEnvironment())
    if rank.world_size > 1 and settings.get("strategy") == "auto":
        settings["strategy"] = "ddp"
    if settings.get("strategy") == "fsdp" and isinstance(components.module, Learner):
        settings["strategy"] = ShardedStrategy(processes=rank.world_size) if rank.world_size > 1 else "auto"
    try:
        return pl.Trainer(
            **settings,
            callbacks=callbacks,
            logger=loggers,
            default_root_dir=folder,
            plugins=plugins,
            enable_progress_bar=False,
            enable_checkpointing=any(isinstance(callback, pl.callbacks.Checkpoint) for callback in callbacks),
            enable_model_summary=False,
            num_sanity_val_steps=0 if isinstance(components.module, Learner) else 1,  # shows what it logs
            use_distributed_sampler=not isinstance(components.data, DataModule),
        )
    except (ValueError, TypeError, RuntimeError, MisconfigurationException) as problem:
        raise ConfigError(f"trainer: {problem}") from problem


def build_checked_trainer(
    config: DictConfig,
    components: Components,
    callbacks: list[pl.Callback],
    loggers: list[Logger],
    folder: Path,
    rank: Rank,
) -> pl.Trainer:
    """Build the Trainer of a run or a trial, with its loggers. Raises ConfigError for callbacks that do not fit."""
    check_monitors(callbacks, components)
    check_transforms(callbacks, components)
    check_single_average(callbacks)
    all_loggers = [*loggers, *build_loggers(config, folder, rank)]
    return build_trainer(
        config, components=components, callbacks=callbacks, loggers=all_loggers, folder=folder, rank=rank
    )


def check_monitors(callbacks: list[pl.Callback], components: Components) -> None:
    """Raise ConfigError for a callback that monitors a metric which a Learner does not produce, or its worst value."""
    for callback in callbacks:
        monitor, mode = getattr(callback, "monitor", None), getattr(callback, "mode", None)
        if monitor is not None:
            components.check_monitor(type(callback).__name__, monitor, mode)


def check_transforms(callbacks: list[pl.Callback], components: Components) -> None:
    """Raise ConfigError for a callback that would change batches which it never sees, or cannot change."""
    for callback in callbacks:
        if not isinstance(callback, BatchTransform):
            if hasattr(callback, "transform_batch"):
                raise ConfigError(
                    f"{type(callback).__name__} has a transform_batch that nothing would call: derive the class from "
                    "pipeline.training.callbacks.hooks.BatchTransform"
                )
            continue
        if not isinstance(components.module, Learner):
            raise ConfigError(
                f"{type(callback).__name__} changes batches, which a LightningModule of your own takes straight from "
                "the data: augment in its training_step and leave the callback out, ~callbacks.augmentation"
            )
        assert components.spec is not None
        callback.check_data(components.spec)
        data = components.data
        if isinstance(data, DataModule):  # all its batches have one size; that of another is unknown
            callback.check_share(data.batch_size // data.world_size, data.world_size)


def check_single_average(callbacks: list[pl.Callback]) -> None:
    """Raise ConfigError for two callbacks that would each evaluate averaged weights of their own."""
    names = [type(callback).__name__ for callback in callbacks if isinstance(callback, WeightAveraging)]
    if len(names) > 1:
        raise ConfigError(
            f"{' and '.join(names)} each evaluate and save their own average of the weights: leave one out, such as "
            f"~callbacks.{names[0].lower()}"
        )


@contextmanager
def lightning_errors_as_config_errors() -> Iterator[None]:
    """Raise ConfigError where Lightning refuses a module or data of the user."""
    try:
        yield
    except (MisconfigurationException, RuntimeError, TypeError, ValueError) as problem:
        raised_in = traceback.extract_tb(problem.__traceback__)[-1].filename
        if not isinstance(problem, MisconfigurationException) and "/pytorch_lightning/" not in raised_in:
            raise
        log.exception("Lightning")
        raise ConfigError(f"Lightning refuses this: {problem}") from problem


LOGGERS_FOLDER = "loggers"  # in the run directory


def build_loggers(config: DictConfig, folder: Path, rank: Rank) -> list[Logger]:
    """Build the loggers of the configuration, which write to the run directory unless it says otherwise.

    Only the first process has any. A resumed run gets a new version of each; the old files stay.
    """
    nodes = config.get("loggers") or {} if rank.is_first else {}
    return [_build_logger(config, str(name), folder) for name in nodes]


def _build_logger(config: DictConfig, name: str, folder: Path) -> Logger:
    node = config.loggers[name]
    accepted = signature.signature_of_object(instantiate.import_target(node, config))
    offered = {"save_dir": str(folder / LOGGERS_FOLDER), "name": name}
    arguments = {
        key: value
        for key, value in offered.items()
        if accepted is None or (key in accepted.parameters and key not in node)
    }
    try:
        logger = instantiate.instantiate(node, config, **arguments)
    except ModuleNotFoundError as problem:
        raise ConfigError(f"loggers.{name} needs a package that is not installed: {problem}") from problem
    if not isinstance(logger, Logger):
        raise ConfigError(
            f"loggers.{name}._target_={node._target_} makes a {type(logger).__name__}; expected a Logger of "
            "pytorch_lightning"
        )
    return logger


# The metric by which a run keeps its best weights and stops early, if only the user's own module says what it logs.


def monitoring_callbacks(
    run: Run, components: Components, callbacks: Sequence[pl.Callback], console: Console, *, is_resumed: bool
) -> list[pl.Callback]:
    """Return the callback that chooses the metric; none if it is known, for a Learner or from before a resume."""
    if isinstance(components.module, Learner):
        return []
    before = ASSEMBLED.record_or_warn(run.folder) if is_resumed else None
    if before is not None:  # the checkpoint names states of callbacks by what they monitor
        _restore_choice(before, callbacks)
        return []

    def on_choice(choice: MonitorChoice | None, reason: str, trainer: pl.Trainer) -> None:
        if choice is None:
            console.print(
                f"monitors    nothing, so the newest weights are kept and nothing stops early: {reason}", soft_wrap=True
            )
        elif choice.metric != DEFAULT_MONITOR:
            console.print(f"monitors    {choice.metric}, where {choice.way} is better: {reason}", soft_wrap=True)
        _show_choice(choice, callbacks)
        if trainer.is_global_zero:
            _save_choice(run, choice, callbacks)

    return [MonitorDiscovery(callbacks, on_choice)]


def _save_choice(run: Run, choice: MonitorChoice | None, callbacks: Sequence[pl.Callback]) -> None:
    assembled = ASSEMBLED.record_or_warn(run.folder) or {}
    facts = {
        "monitor": next(callback.monitored for callback in callbacks if isinstance(callback, Checkpointing)),
        "instead_of_default": None if choice is None else asdict(choice),
        "headline": assembled.get("headline") if choice is None else choice.metric,
    }
    run.write_json(ASSEMBLED.name, assembled | facts)


def _restore_choice(assembled: dict[str, Any], callbacks: Sequence[pl.Callback]) -> None:
    if "instead_of_default" not in assembled:  # written by an older version, which had no choice
        return
    chosen = assembled["instead_of_default"]
    choice = None if chosen is None else MonitorChoice(**chosen)
    _show_choice(choice, callbacks)
    for callback in with_default_monitor(callbacks):
        set_monitor(callback, choice)


def _show_choice(choice: MonitorChoice | None, callbacks: Sequence[pl.Callback]) -> None:
    for callback in callbacks:
        if isinstance(callback, ProgressDisplay) and choice is not None:
            callback.headline = choice.metric
