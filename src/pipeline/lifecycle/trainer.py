"""Lightning's Trainer for the processes that are there."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from pipeline.data.datamodule import DataModule
from pipeline.errors import ConfigError
from pipeline.lifecycle.build import Assembly
from pipeline.system.process import Place
from pipeline.training.callbacks.timing import TimedCheckpointIO
from pipeline.training.learner import Learner
from pipeline.training.precision import OF_WEIGHTS
from pipeline.training.sharding import Sharded

log = logging.getLogger(__name__)

# Settings of Lightning's Trainer that Lightning leaves to whoever optimises by hand: here, the Learner.
OURS = ("gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches", "sync_batchnorm")


def build_trainer(
    config: DictConfig,
    *,
    assembly: Assembly,
    callbacks: list[pl.Callback],
    loggers: Any,
    folder: Path,
    here: Place,
) -> pl.Trainer:
    """Lightning's Trainer, without what is ours: its bar, its checkpoints, its launching."""
    settings: dict[str, Any] = OmegaConf.to_container(config.trainer, resolve=True)  # type: ignore[assignment]
    settings.pop("_target_")
    plugins: list[Any] = [TimedCheckpointIO()]
    if isinstance(assembly.module, Learner):
        for name in OURS:
            settings.pop(name, None)
        if str(settings.get("precision")) in OF_WEIGHTS:
            plugins.append(OF_WEIGHTS[str(settings.pop("precision"))]())
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
        settings["strategy"] = Sharded(processes=here.world_size) if here.world_size > 1 else "auto"
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
def refusals_of_lightning() -> Iterator[None]:
    """Raises ConfigError for what Lightning itself has against a module or data of the user's own."""
    try:
        yield
    except (MisconfigurationException, RuntimeError, TypeError, ValueError) as problem:
        raised_in = traceback.extract_tb(problem.__traceback__)[-1].filename
        if not isinstance(problem, MisconfigurationException) and "/pytorch_lightning/" not in raised_in:
            raise
        log.exception("Lightning")
        raise ConfigError(f"Lightning refuses this: {problem}") from problem
