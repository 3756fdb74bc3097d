"""Training, from a frozen configuration to the verdict of the test set."""

import os
from pathlib import Path

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger
from rich.console import Console

from pipeline.config import instantiate
from pipeline.data.datamodule import DataModule
from pipeline.errors import ConfigError
from pipeline.lifecycle import exit_codes, resume, summaries
from pipeline.lifecycle.build import Components, build_components, load_initial_weights
from pipeline.lifecycle.console import open_console
from pipeline.lifecycle.final_test import best_checkpoint, run_test
from pipeline.lifecycle.load_run import check_same_data, with_saved_tokenizer
from pipeline.lifecycle.run_recorder import RunRecorder
from pipeline.lifecycle.trainer import (
    build_loggers,
    build_trainer,
    lightning_errors_as_config_errors,
    monitoring_callbacks,
)
from pipeline.runs.environment import check_variables
from pipeline.runs.run_directory import Run
from pipeline.system.heartbeat import HeartbeatWriter
from pipeline.system.process import Rank, process_rank
from pipeline.training import checkpoints
from pipeline.training.callbacks.averaging import WeightAveraging
from pipeline.training.callbacks.checkpointing import Checkpointing
from pipeline.training.callbacks.hooks import BatchTransform
from pipeline.training.callbacks.monitors import EpochTiming
from pipeline.training.callbacks.progress_bar import ProgressDisplay
from pipeline.training.callbacks.send_heartbeats import SendHeartbeats
from pipeline.training.distributed.rendezvous import Rendezvous
from pipeline.training.interruption import Interruption
from pipeline.training.learner import Learner


def train_run(run: Run, here: Rank, pulse: HeartbeatWriter, console: Console, interruption: Interruption) -> None:
    """Train, judge on the test set, and leave everything in the run directory."""
    check_variables(os.environ)  # of this process, which may have been started on another machine
    meeting = Rendezvous(here, pulse, console, interruption)
    meeting.wait_until_started()
    config = resume.requested_config(run)
    instantiate.check_signatures(config)

    # What learns, and from what.
    assembly = build_components(with_saved_tokenizer(run, config), here)
    start_from, damaged = checkpoints.newest_intact(run.checkpoints)
    for sentence in damaged:
        console.print(f"[yellow]{sentence}: taking the one before it[/]")
    if start_from is not None:
        check_same_data(run, assembly)
    if config.init_from is not None and start_from is None:
        load_initial_weights(Path(config.init_from), assembly.module)

    # What watches.
    recording = RunRecorder(run, config, assembly, here, console, interruption)
    callbacks = [
        SendHeartbeats(pulse),  # the first, so that it tells where the others hang
        *instantiate.instantiate(config.callbacks, config).values(),
        *recording.callbacks,
        build_progress_display(config, assembly, console),
        EpochTiming(),
        Checkpointing(
            folder=run.checkpoints, interruption=interruption, evaluated=run.tested_checkpoint, **config.checkpoint
        ),
    ]
    callbacks = [
        *monitoring_callbacks(run, assembly, callbacks, console, is_resumed=start_from is not None),
        *callbacks,
    ]
    trainer = build_checked_trainer(config, assembly, callbacks, recording.loggers, run.folder, here)

    console.print(summaries.training_plan(run, assembly, trainer, start_from), soft_wrap=True)
    meeting.wait_until_set_up()
    with recording.of_run(trainer, resumed_from=start_from):
        with lightning_errors_as_config_errors():
            trainer.fit(assembly.module, datamodule=assembly.data, ckpt_path=start_from, weights_only=True)
        pulse.tell_where_it_stands()
        recording.training_ended(trainer)
        # The first process may still be moving the link to the best one, and removing what it pointed to.
        trainer.strategy.barrier("judge")
        recording.conclude(run_test(trainer, assembly, best_checkpoint(run)))
        pulse.tell_where_it_stands()


def build_checked_trainer(
    config: DictConfig,
    assembly: Components,
    callbacks: list[pl.Callback],
    loggers: list[Logger],
    folder: Path,
    here: Rank,
) -> pl.Trainer:
    """The Trainer of a run, or of a trial, with all that watches it. Raises ConfigError for what does not fit."""
    check_monitors(callbacks, assembly)
    check_transforms(callbacks, assembly)
    check_single_average(callbacks)
    all_loggers = [*loggers, *build_loggers(config, folder, here)]
    return build_trainer(config, assembly=assembly, callbacks=callbacks, loggers=all_loggers, folder=folder, here=here)


def build_progress_display(config: DictConfig, assembly: Components, console: Console) -> ProgressDisplay:
    batch_size = config.data.get("batch_size")
    accumulate = config.trainer.get("accumulate_grad_batches", 1)
    return ProgressDisplay(
        console=console,
        total_steps=assembly.total_steps,
        samples_per_step=None if batch_size is None else batch_size * accumulate,
        headline=assembly.headline,
    )


def check_monitors(callbacks: list[pl.Callback], assembly: Components) -> None:
    """Raises ConfigError for a callback that waits for a metric which a Learner will never produce, or for its worst
    value."""
    for callback in callbacks:
        monitor, mode = getattr(callback, "monitor", None), getattr(callback, "mode", None)
        if monitor is not None:
            assembly.check_monitor(type(callback).__name__, monitor, mode)


def check_transforms(callbacks: list[pl.Callback], assembly: Components) -> None:
    """Raises ConfigError for a callback that would change batches which it never sees, or cannot change."""
    for callback in callbacks:
        if not isinstance(callback, BatchTransform):
            if hasattr(callback, "transform_batch"):
                raise ConfigError(
                    f"{type(callback).__name__} has a transform_batch that nothing would call: derive the class from "
                    "pipeline.training.callbacks.hooks.BatchTransform"
                )
            continue
        if not isinstance(assembly.module, Learner):
            raise ConfigError(
                f"{type(callback).__name__} changes batches, which a LightningModule of your own takes straight from "
                "the data: augment in its training_step and leave the callback out, ~callbacks.augmentation"
            )
        assert assembly.spec is not None
        callback.check_data(assembly.spec)
        data = assembly.data
        if isinstance(data, DataModule):  # all of whose batches are of one size; what another hands out, none can say
            callback.check_share(data.batch_size // data.world_size, data.world_size)


def check_single_average(callbacks: list[pl.Callback]) -> None:
    """Raises ConfigError for two that would each put other weights in the place of those that are judged."""
    names = [type(each).__name__ for each in callbacks if isinstance(each, WeightAveraging)]
    if len(names) > 1:
        raise ConfigError(
            f"{' and '.join(names)} each judge and keep an average of the weights of their own: leave one out, such as "
            f"~callbacks.{names[0].lower()}"
        )


def train_in_this_process(run: Run, pulse: HeartbeatWriter) -> int:
    """In one process of the run; the exit code."""
    here = process_rank()
    interruption = Interruption()
    interruption.install()
    log_path = run.log_path if here.is_first else run.folder / f"rank{here.rank}.log"
    console = open_console(log_path, quiet=not here.is_first)
    return exit_codes.run_to_exit_code(lambda: train_run(run, here, pulse, console, interruption), run.folder)
