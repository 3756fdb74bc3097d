"""Train a run: from its frozen configuration to the result on the test set."""

import os
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from pipeline.config import instantiate
from pipeline.lifecycle import exit_codes, resume, summaries
from pipeline.lifecycle.build import Components, build_components, load_initial_weights
from pipeline.lifecycle.console import open_console
from pipeline.lifecycle.final_test import best_checkpoint, run_test
from pipeline.lifecycle.load_run import check_same_data, with_saved_tokenizer
from pipeline.lifecycle.run_recorder import RunRecorder
from pipeline.lifecycle.trainer import (
    build_checked_trainer,
    lightning_errors_as_config_errors,
    monitoring_callbacks,
)
from pipeline.runs.environment import check_variables
from pipeline.runs.run_directory import Run
from pipeline.system.heartbeat import HeartbeatWriter
from pipeline.system.process import Rank, process_rank
from pipeline.training import checkpoints
from pipeline.training.callbacks.checkpointing import Checkpointing
from pipeline.training.callbacks.monitors import EpochTiming
from pipeline.training.callbacks.progress_bar import ProgressDisplay
from pipeline.training.callbacks.send_heartbeats import SendHeartbeats
from pipeline.training.distributed.rendezvous import Rendezvous
from pipeline.training.interruption import Interruption


def train_run(run: Run, rank: Rank, heartbeat: HeartbeatWriter, console: Console, interruption: Interruption) -> None:
    """Train, evaluate on the test set, and record everything in the run directory."""
    check_variables(os.environ)  # of this process, which may run on another machine than the launcher
    rendezvous = Rendezvous(rank, heartbeat, console, interruption)
    rendezvous.wait_until_started()
    config = resume.requested_config(run)
    instantiate.check_signatures(config)

    # What learns, and from what data.
    components = build_components(with_saved_tokenizer(run, config), rank)
    checkpoint, problems = checkpoints.newest_intact(run.checkpoints)
    for problem in problems:
        console.print(f"[yellow]{problem}: taking the one before it[/]")
    if checkpoint is not None:
        check_same_data(run, components)
    if config.init_from is not None and checkpoint is None:
        load_initial_weights(Path(config.init_from), components.module)

    # What watches.
    recorder = RunRecorder(run, config, components, rank, console, interruption)
    callbacks = [
        SendHeartbeats(heartbeat),  # the first, so that it shows where the others hang
        *instantiate.instantiate(config.callbacks, config).values(),
        *recorder.callbacks,
        build_progress_display(config, components, console),
        EpochTiming(),
        Checkpointing(
            folder=run.checkpoints, interruption=interruption, evaluated=run.tested_checkpoint, **config.checkpoint
        ),
    ]
    callbacks = monitoring_callbacks(run, components, callbacks, console, is_resumed=checkpoint is not None) + callbacks
    trainer = build_checked_trainer(config, components, callbacks, recorder.loggers, run.folder, rank)

    # Training and test.
    console.print(summaries.training_plan(run, components, trainer, checkpoint), soft_wrap=True)
    rendezvous.wait_until_set_up()
    with recorder.record_run(trainer, resumed_from=checkpoint):
        with lightning_errors_as_config_errors():
            trainer.fit(components.module, datamodule=components.data, ckpt_path=checkpoint, weights_only=True)
        heartbeat.tell_where_it_stands()
        recorder.record_training_end(trainer)
        # The first process may still be moving the link to the best checkpoint and removing the old one.
        trainer.strategy.barrier("test")
        recorder.record_test(run_test(trainer, components, best_checkpoint(run)))
        heartbeat.tell_where_it_stands()


def build_progress_display(config: DictConfig, components: Components, console: Console) -> ProgressDisplay:
    batch_size = config.data.get("batch_size")
    accumulate = config.trainer.get("accumulate_grad_batches", 1)
    return ProgressDisplay(
        console=console,
        total_steps=components.total_steps,
        samples_per_step=None if batch_size is None else batch_size * accumulate,
        headline=components.headline,
    )


def train_in_this_process(run: Run, heartbeat: HeartbeatWriter) -> int:
    """Run one process of the run, with console, log and signal handlers; return its exit code."""
    rank = process_rank()
    interruption = Interruption()
    interruption.install()
    log_path = run.log_path if rank.is_first else run.folder / f"rank{rank.rank}.log"
    console = open_console(log_path, quiet=not rank.is_first)
    return exit_codes.run_to_exit_code(lambda: train_run(run, rank, heartbeat, console, interruption), run.folder)
