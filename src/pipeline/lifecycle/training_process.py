"""One process of a run, started by a launcher: `python -m pipeline.lifecycle.training_process RUN_DIR [PACKAGE ...]`.

It installs signal handlers before it imports the training, which takes seconds: a signal during the import ends the
process at once and without a traceback, because there is nothing to save yet.
"""

import os
import signal
import sys
from contextlib import nullcontext
from types import FrameType

from pipeline.errors import INTERRUPTED, PREEMPTED, USER_ERROR, UserError
from pipeline.launch import slurm
from pipeline.runs import lock
from pipeline.runs.run_directory import Run
from pipeline.system.heartbeat import HeartbeatWriter
from pipeline.system.process import (
    add_working_directory_to_path,
    exit_with_parent,
    exit_without_teardown,
    ignore_warnings_as_errors,
    process_rank,
    rank_environment,
    rank_from_environment,
)
from pipeline.system.streams import broken_pipe_safe_output, print_labelled
from pipeline.training.interruption import SIGNALS


def exit_on_signal(number: int, frame: FrameType | None) -> None:
    """Exit at once, with the exit code of this signal."""
    os._exit(INTERRUPTED if number == signal.SIGINT else PREEMPTED)


def run_training_process(run: Run) -> int:
    """Run one process of the run; return its exit code."""
    for number in SIGNALS:
        signal.signal(number, exit_on_signal)
    ignore_warnings_as_errors()
    _set_torchrun_variables()
    heartbeat = HeartbeatWriter(process_rank().rank)
    heartbeat.tell_where_it_stands()
    exit_with_parent()
    add_working_directory_to_path()
    # If the launcher is our own, the parent process holds the lock. The first process of a cluster job takes it here,
    # and waits for another holder: nobody would put the job into the queue again.
    with (
        broken_pipe_safe_output(),
        lock.run_lock(run.folder, lock.TRAINED, is_cluster_job=True) if process_rank().is_first else nullcontext(),
    ):
        from pipeline.lifecycle.train_run import train_in_this_process

        return train_in_this_process(run, heartbeat)


def _set_torchrun_variables() -> None:
    """Set the variables of torchrun, which Lightning and torch.distributed read, in a process that SLURM started."""
    rank = rank_from_environment()
    if rank is not None and not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        address, port = slurm.rendezvous_endpoint()
        os.environ.update(rank_environment(rank, master_address=address, master_port=port))


def main(run: Run) -> int:
    """Return the exit code, after one line for an error of the user."""
    try:
        return run_training_process(run)
    except UserError as mistake:
        print_labelled("error", str(mistake), sys.stderr)
        return USER_ERROR


if __name__ == "__main__":
    exit_without_teardown(main(Run.from_arguments(sys.argv[1:])))
