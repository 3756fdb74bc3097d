"""Lightning's Trainer for the processes that are there."""

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
from pipeline.training.callbacks.checkpointing import Checkpointing
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

# The network's first layer brings inputs to the type of its weights. Lightning would do so with the whole batch, in
# place, and round targets, and numbers that stand for names.


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

# Settings of Lightning's Trainer that Lightning leaves to whoever optimises by hand: here, the Learner.
LEARNER_SETTINGS = ("gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches", "sync_batchnorm")


def build_trainer(
    config: DictConfig,
    *,
    assembly: Components,
    callbacks: list[pl.Callback],
    loggers: Any,
    folder: Path,
    here: Rank,
) -> pl.Trainer:
    """Lightning's Trainer, without what is ours: its bar, its checkpoints, its launching."""
    settings: dict[str, Any] = OmegaConf.to_container(config.trainer, resolve=True)  # type: ignore[assignment]
    settings.pop("_target_")
    plugins: list[Any] = [TimedCheckpointIO()]
    if isinstance(assembly.module, Learner):
        for name in LEARNER_SETTINGS:
            settings.pop(name, None)
        if str(settings.get("precision")) in PRECISION_OF_WEIGHTS:
            plugins.append(PRECISION_OF_WEIGHTS[str(settings.pop("precision"))]())
    elif settings.get("sync_batchnorm"):  # by torch's own, which refuses the CPU
        settings["sync_batchnorm"] = torch.cuda.is_available() and settings.get("accelerator") != "cpu"
    # The processes are there already; how many is theirs to say.
    if not isinstance(settings.get("devices"), list):
        settings["devices"] = here.local_world_size
    settings["num_nodes"] = here.nodes
    # Told, not left to be found: of a job of SLURM's Lightning would take over the signals, and count its tasks anew.
    plugins.append(LightningEnvironment() if here.world_size == 1 else TorchElasticEnvironment())
    if here.world_size > 1 and settings.get("strategy") == "auto":
        settings["strategy"] = "ddp"
    if settings.get("strategy") == "fsdp" and isinstance(assembly.module, Learner):
        settings["strategy"] = ShardedStrategy(processes=here.world_size) if here.world_size > 1 else "auto"
    try:
        return pl.Trainer(
            **settings,
            callbacks=callbacks,
            logger=loggers,
            default_root_dir=folder,
            plugins=plugins,
            enable_progress_bar=False,
            enable_checkpointing=any(isinstance(each, pl.callbacks.Checkpoint) for each in callbacks),
            enable_model_summary=False,
            num_sanity_val_steps=0 if isinstance(assembly.module, Learner) else 1,  # which tells what is logged
            use_distributed_sampler=not isinstance(assembly.data, DataModule),
        )
    except (
        ValueError,
        TypeError,
        RuntimeError,
        MisconfigurationException,
    ) as problem:
        raise ConfigError(f"trainer: {problem}") from problem


@contextmanager
def lightning_errors_as_config_errors() -> Iterator[None]:
    """Raises ConfigError for what Lightning itself has against a module or data of the user's own."""
    try:
        yield
    except (MisconfigurationException, RuntimeError, TypeError, ValueError) as problem:
        raised_in = traceback.extract_tb(problem.__traceback__)[-1].filename
        if not isinstance(problem, MisconfigurationException) and "/pytorch_lightning/" not in raised_in:
            raise
        log.exception("Lightning")
        raise ConfigError(f"Lightning refuses this: {problem}") from problem


LOGGERS_FOLDER = "loggers"  # of a run


def build_loggers(config: DictConfig, folder: Path, here: Rank) -> list[Logger]:
    """Those that the configuration names, which write to the run's directory unless it says otherwise.

    Only the first process has any, as it alone has the journal. A run that goes on gets a new version of each: what
    was written before stays.
    """
    nodes = config.get("loggers") or {} if here.is_first else {}
    return [_build_logger(config, str(name), folder) for name in nodes]


def _build_logger(config: DictConfig, name: str, folder: Path) -> Logger:
    node = config.loggers[name]
    taken = signature.signature_of_object(instantiate.import_target(node, config))
    offered = {"save_dir": str(folder / LOGGERS_FOLDER), "name": name}
    given = {
        key: value for key, value in offered.items() if taken is None or (key in taken.parameters and key not in node)
    }
    try:
        logger = instantiate.instantiate(node, config, **given)
    except ModuleNotFoundError as problem:
        raise ConfigError(f"loggers.{name} needs a package that is not installed: {problem}") from problem
    if not isinstance(logger, Logger):
        raise ConfigError(
            f"loggers.{name}._target_={node._target_} makes a {type(logger).__name__}; expected a Logger of "
            "pytorch_lightning"
        )
    return logger


# By which metric a run keeps its best weights and stops early, where a LightningModule of the user's own says what
# there is.


def monitoring_callbacks(
    run: Run, assembly: Components, callbacks: Sequence[pl.Callback], console: Console, *, is_resumed: bool
) -> list[pl.Callback]:
    """What finds it out; nothing where that is known, of a Learner or of an earlier life of the run."""
    if isinstance(assembly.module, Learner):
        return []
    before = ASSEMBLED.record_or_warn(run.folder) if is_resumed else None
    if before is not None:  # the states of those that watch are found in the checkpoint by what they monitor
        _restore_choice(before, callbacks)
        return []

    def decided(choice: MonitorChoice | None, reason: str, trainer: pl.Trainer) -> None:
        if choice is None:
            console.print(
                f"monitors    nothing, so the newest weights are kept and nothing stops early: {reason}", soft_wrap=True
            )
        elif choice.metric != DEFAULT_MONITOR:
            console.print(f"monitors    {choice.metric}, where {choice.way} is better: {reason}", soft_wrap=True)
        _show_choice(choice, callbacks)
        if trainer.is_global_zero:
            _save_choice(run, choice, callbacks)

    return [MonitorDiscovery(callbacks, decided)]


def _save_choice(run: Run, choice: MonitorChoice | None, callbacks: Sequence[pl.Callback]) -> None:
    assembled = ASSEMBLED.record_or_warn(run.folder) or {}
    found = {
        "monitor": next(each.monitored for each in callbacks if isinstance(each, Checkpointing)),
        "instead_of_default": None if choice is None else asdict(choice),
        "headline": assembled.get("headline") if choice is None else choice.metric,
    }
    run.write_json(ASSEMBLED.name, assembled | found)


def _restore_choice(assembled: dict[str, Any], callbacks: Sequence[pl.Callback]) -> None:
    if "instead_of_default" not in assembled:  # of an older version, which knew of no other
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
