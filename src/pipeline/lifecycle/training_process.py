"""One process of a run, started by a launcher: `python -m pipeline.lifecycle.training_process RUN_DIR [PACKAGE ...]`.

Imports the training, which takes seconds, only when a signal that comes meanwhile ends the process at once and
without a traceback: nothing has been begun that would have to be saved.
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
    os._exit(INTERRUPTED if number == signal.SIGINT else PREEMPTED)


def run_training_process(run: Run) -> int:
    """Be one of the run's processes; the exit code."""
    for number in SIGNALS:
        signal.signal(number, exit_on_signal)
    ignore_warnings_as_errors()
    _set_torchrun_variables()
    pulse = HeartbeatWriter(process_rank().rank)
    pulse.tell_where_it_stands()
    exit_with_parent()
    add_working_directory_to_path()
    # Started by us, it has the lock from its parent; the first process of a cluster's job takes it here, and waits for
    # whoever looks at the run just now: nobody would put the job into the queue again.
    with (
        broken_pipe_safe_output(),
        lock.run_lock(run.folder, lock.TRAINED, is_cluster_job=True) if process_rank().is_first else nullcontext(),
    ):
        from pipeline.lifecycle import train

        return train.train_in_this_process(run, pulse)


def _set_torchrun_variables() -> None:
    """Lightning and torch.distributed look for the variables that torchrun sets; SLURM has others."""
    here = rank_from_environment()
    if here is not None and not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        address, port = slurm.rendezvous_endpoint()
        os.environ.update(rank_environment(here, master_address=address, master_port=port))


def main(run: Run) -> int:
    try:
        return run_training_process(run)
    except UserError as mistake:
        print_labelled("error", str(mistake), sys.stderr)
        return USER_ERROR


if __name__ == "__main__":
    exit_without_teardown(main(Run.from_arguments(sys.argv[1:])))
