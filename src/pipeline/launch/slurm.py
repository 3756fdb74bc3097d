"""The launcher SLURM: it submits one readable sbatch script from the run directory."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.constraints import NonNegativeInt, PositiveInt
from pipeline.durations import parse_duration, parse_mebibytes
from pipeline.errors import DONE, PREEMPTED, ConfigError, RunError
from pipeline.launch import job_record
from pipeline.launch.launcher import Resources, check_resources_agree

NAME = "slurm"
SCRIPT, LOG = "job.sh", "job.log"
ARRAY_LOG = "job-%a.log"
CLIENT_SECONDS = 30  # limit of a SLURM command
ACTIVE_STATES = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED", "STOPPED")
PORTS = range(20_000, 40_000)
# srun's exit code of a task that SIGUSR1 ended before it could handle it: nothing had been begun.
SIGNALED_TOO_EARLY = 128 + signal.SIGUSR1


class Slurm:
    """Submits a job with one task for each GPU (or `processes_per_node`), which requeues itself.

    `notice_seconds` before the time limit, or when the scheduler wants the nodes, the run saves and the job is
    requeued, `max_requeues` times; it then goes on at the same step. `options` are further #SBATCH options
    {"qos": "high"}; `setup` are lines of shell that run before (module load ...).
    """

    def __init__(
        self,
        *,
        nodes: PositiveInt,
        gpus_per_node: NonNegativeInt,
        processes_per_node: PositiveInt | None,
        cpus_per_process: PositiveInt | None,
        time: str,
        memory_per_node: str | None,
        partition: str | None,
        account: str | None,
        options: Mapping[str, str | int | None],
        setup: Sequence[str],
        max_requeues: NonNegativeInt,
        notice_seconds: PositiveInt,
        dry_run: bool,
    ) -> None:
        self.nodes = nodes
        self.gpus_per_node = gpus_per_node
        self.processes_per_node = processes_per_node or max(gpus_per_node, 1)
        self.cpus_per_process = cpus_per_process
        self.minutes = -(-parse_duration(time, "launch.time") // 60)
        self.mebibytes = None if memory_per_node is None else parse_mebibytes(memory_per_node, "launch.memory_per_node")
        self.partition = partition
        self.account = account
        self.options = options
        self.setup = setup
        self.max_requeues = max_requeues
        self.notice_seconds = notice_seconds
        self.dry_run = dry_run
        if notice_seconds >= 60 * self.minutes:
            raise ConfigError(
                f"launch.notice_seconds={notice_seconds} leaves nothing of launch.time={time} to train in: expected "
                f"less, such as launch.notice_seconds={30 * self.minutes}, or more time, such as launch.time=1h"
            )

    def resources(self, *, devices: int | str | list[int], accelerator: str, num_nodes: int) -> Resources:
        return check_resources_agree(
            Resources(self.nodes, self.processes_per_node),
            devices=devices,
            num_nodes=num_nodes,
            settings="launch.processes_per_node={0}" if self.gpus_per_node == 0 else "launch.gpus_per_node={0}",
        )

    def run(self, command: list[str], resources: Resources, folder: Path) -> int:
        resume_command = f"pipeline resume run={folder.name}"
        number = self._submit(self.script(command, folder, resume_command, {}), folder, "run")
        if number is not None:
            print(f"follow      pipeline logs {folder.name} --follow\ncancel      pipeline cancel {folder.name}")
        return DONE

    def run_workers(self, command: list[str], count: int, folder: Path) -> int:
        """Submit an array of jobs that each run `command` and requeue themselves.

        Each is one task with the resources of a node of a run: it starts its processes itself. Raises ConfigError
        for workers of several nodes.
        """
        if self.nodes > 1:
            raise ConfigError(
                f"launch.nodes={self.nodes}: a trial of a search has one node; for {self.nodes} at a time "
                f"search.workers={self.nodes}"
            )
        cores = None if self.cpus_per_process is None else self.cpus_per_process * self.processes_per_node
        array: dict[str, str | int | None] = {
            "array": f"0-{count - 1}",
            "output": str(folder / ARRAY_LOG),
            "ntasks-per-node": 1,
            "cpus-per-task": cores,
        }
        resume_command = f"pipeline search name={folder.name}"
        number = self._submit(self.script(command, folder, resume_command, array), folder, "search")
        if number is not None:
            print(f"follow      tail -f {shlex.quote(str(folder / 'job-0.log'))}\ncancel      scancel {number}")
        return DONE

    def _submit(self, script: str, folder: Path, noun: str) -> str | None:
        """Return the job's number; None in a dry run."""
        path = folder / SCRIPT
        path.write_text(script, encoding="utf-8")
        if self.dry_run:
            job_record.write_job_record(folder, launcher=NAME, job=None)
            print(f"{noun:<11} {folder}\nscript      {path}\nsubmit it   sbatch {shlex.quote(str(path))}")
            return None
        number = slurm_client("sbatch", "--parsable", str(path)).partition(";")[0]
        job_record.write_job_record(folder, launcher=NAME, job=number)
        print(f"{noun:<11} {folder}\njob         {number}")
        return number

    def state(self, folder: Path) -> str | None:
        number = _job_of(folder)
        if number is None:
            return None
        answer = slurm_client("squeue", "--noheader", f"--jobs={number}", "--states=all", "--format=%T", known=False)
        return next(
            (state for state in answer.split() if state in ACTIVE_STATES), None
        )  # of an array, one for each job

    def cancel(self, folder: Path) -> str:
        number = _job_of(folder)
        if number is None:
            raise RunError(f"{folder.name} was not submitted to SLURM: there is no job to cancel")
        slurm_client("scancel", number)
        return f"job {number} is cancelled"

    def script(
        self, command: list[str], folder: Path, resume_command: str, overrides: Mapping[str, str | int | None]
    ) -> str:
        """Return the sbatch script; `resume_command` is what to type once it no longer requeues itself."""
        options: dict[str, str | int | None] = {
            "job-name": folder.name,
            "output": str(folder / LOG),
            "open-mode": "append",
            "nodes": self.nodes,
            "ntasks-per-node": self.processes_per_node,
            "gpus-per-node": self.gpus_per_node or None,
            "cpus-per-task": self.cpus_per_process,
            "mem": None if self.mebibytes is None else f"{self.mebibytes}M",
            "time": self.minutes,
            "partition": self.partition,
            "account": self.account,
            "signal": f"SIGUSR1@{self.notice_seconds}",
            **overrides,
            **self.options,
        }
        _check_options(options)
        header = "\n".join(f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None)
        setup = "".join(f"{line}\n" for line in self.setup)
        return f"""#!/bin/bash
{header}
#SBATCH --requeue
set -uo pipefail
cd {shlex.quote(os.getcwd())}
export OMP_NUM_THREADS="${{SLURM_CPUS_PER_TASK:-1}}"
{setup}
# Not killed on a bad exit: one process may end while the others are still saving.
srun --kill-on-bad-exit=0 --wait=60 {shlex.join(command)}
code=$?

# {PREEMPTED}: saved, and can go on; {SIGNALED_TOO_EARLY}: ended before there was anything to save.
if [ "$code" -ne {PREEMPTED} ] && [ "$code" -ne {SIGNALED_TOO_EARLY} ]; then exit "$code"; fi
# The id of one job of an array may be that of the whole array.
job="${{SLURM_ARRAY_JOB_ID:+${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID}}"
job="${{job:-$SLURM_JOB_ID}}"
# A job that somebody cancelled is no longer RUNNING.
if [ "$(squeue --noheader --jobs="$job" --format=%T)" != RUNNING ]; then exit "$code"; fi
restarts=${{SLURM_RESTART_COUNT:-0}}
if [ "$restarts" -lt {self.max_requeues} ]; then
    echo "back to the queue, to go on by itself (the $((restarts + 1)). of {self.max_requeues} times)"
    scontrol requeue "$job"
else
    echo "not back to the queue: launch.max_requeues={self.max_requeues} is used up. To go on: {resume_command}"
fi
exit "$code"
"""


def _check_options(options: Mapping[str, str | int | None]) -> None:
    for name, value in options.items():
        if re.search(r"[\x00-\x1f\x7f]", str(value)) or not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise ConfigError(
                f"SLURM does not understand the option --{name}={value!r}: expected one line of text for a name of its "
                "own, such as '+launch.options.qos=high'"
            )


def _job_of(folder: Path) -> str | None:
    facts = job_record.read_job_record(folder) or {}
    return facts.get("job") if facts.get("launcher") == NAME else None


def slurm_client(program: str, *arguments: str, known: bool = True) -> str:
    """Return the output of a SLURM command; "" where it refuses a job that may be forgotten (not `known`).

    Raises ConfigError where it is not installed, RunError where it refuses or does not answer.
    """
    if shutil.which(program) is None:
        raise ConfigError(f"launch=slurm needs {program}, which is not on the PATH here: type this on a login node")
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=CLIENT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise RunError(f"{program} did not answer within {CLIENT_SECONDS} s; is SLURM's controller up?") from None
    if done.returncode != 0 and not known:
        return ""
    if done.returncode != 0:
        raise RunError(f"{program} refused: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def rendezvous_endpoint() -> tuple[str, int]:
    """Return address and port of the first process of a SLURM step; every process of it computes the same."""
    port = PORTS[int(os.environ["SLURM_JOB_ID"]) % len(PORTS)]
    address = os.environ.get("MASTER_ADDR")
    if address is not None:
        return address, int(os.environ.get("MASTER_PORT", port))
    nodes = os.environ.get("SLURM_STEP_NODELIST", os.environ.get("SLURM_JOB_NODELIST", ""))
    first = slurm_client("scontrol", "show", "hostnames", nodes).splitlines()[0]
    try:
        return socket.gethostbyname(first), port
    except OSError:  # a node's name may differ from its host's: SLURM knows the address
        details = slurm_client("scontrol", "show", "node", first)
        return next(word.partition("=")[2] for word in details.split() if word.startswith("NodeAddr=")), port
