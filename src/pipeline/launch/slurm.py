"""SLURM: one readable sbatch script in the run directory, submitted; no process of ours waits for it."""

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
from pipeline.errors import DONE, PREEMPTED, ConfigError, RunError
from pipeline.launch import job_record
from pipeline.launch.launcher import Resources, check_agrees
from pipeline.launch.units import mebibytes_of, seconds_of

NAME = "slurm"
SCRIPT, LOG = "job.sh", "job.log"
ARRAY_LOG = "job-%a.log"
CLIENT_SECONDS = 30  # what a command of SLURM's may take
UNDER_WAY = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED", "STOPPED")
PORTS = range(20_000, 40_000)
# What srun makes of a task that SIGUSR1 ended before it could listen: nothing had been begun.
TOLD_TOO_EARLY = 128 + signal.SIGUSR1


class Slurm:
    """`sbatch`, with one task for each GPU (or `processes_per_node`), that requeues itself.

    When the time is nearly up (`notice_seconds` before) or the scheduler wants the nodes, the run saves and the job
    goes back to the queue, `max_requeues` times; it then goes on at the very step. `options` are further #SBATCH
    options {"qos": "high"}; `setup` lines of shell that come before (module load ...).
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
        self.minutes = -(-seconds_of(time, "launch.time") // 60)
        self.mebibytes = None if memory_per_node is None else mebibytes_of(memory_per_node, "launch.memory_per_node")
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
        return check_agrees(
            Resources(self.nodes, self.processes_per_node),
            devices=devices,
            num_nodes=num_nodes,
            settings="launch.processes_per_node={0}" if self.gpus_per_node == 0 else "launch.gpus_per_node={0}",
        )

    def run(self, command: list[str], resources: Resources, folder: Path) -> int:
        go_on = f"pipeline resume run={folder.name}"
        number = self._submit(self.script(command, folder, go_on, {}), folder, "run")
        if number is not None:
            print(f"follow      pipeline logs {folder.name} --follow\ncancel      pipeline cancel {folder.name}")
        return DONE

    def run_workers(self, command: list[str], count: int, folder: Path) -> int:
        """`command` in each of an array of jobs, which requeue themselves one by one; returns when it is submitted.

        Each is one task, with what a node of a run would have: it starts its processes itself. Raises ConfigError for
        workers of several nodes.
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
        go_on = f"pipeline search name={folder.name}"
        number = self._submit(self.script(command, folder, go_on, array), folder, "search")
        if number is not None:
            print(f"follow      tail -f {shlex.quote(str(folder / 'job-0.log'))}\ncancel      scancel {number}")
        return DONE

    def _submit(self, script: str, folder: Path, what: str) -> str | None:
        """The job's number; None where nothing is to be submitted."""
        path = folder / SCRIPT
        path.write_text(script, encoding="utf-8")
        if self.dry_run:
            job_record.note(folder, launcher=NAME, job=None)
            print(f"{what:<11} {folder}\nscript      {path}\nsubmit it   sbatch {shlex.quote(str(path))}")
            return None
        number = client("sbatch", "--parsable", str(path)).partition(";")[0]
        job_record.note(folder, launcher=NAME, job=number)
        print(f"{what:<11} {folder}\njob         {number}")
        return number

    def state(self, folder: Path) -> str | None:
        number = _job_of(folder)
        if number is None:
            return None
        answer = client("squeue", "--noheader", f"--jobs={number}", "--states=all", "--format=%T", known=False)
        return next((state for state in answer.split() if state in UNDER_WAY), None)  # of an array, one for each job

    def cancel(self, folder: Path) -> str:
        number = _job_of(folder)
        if number is None:
            raise RunError(f"{folder.name} was not submitted to SLURM: there is no job to cancel")
        client("scancel", number)
        return f"job {number} is cancelled"

    def script(self, command: list[str], folder: Path, go_on: str, instead: Mapping[str, str | int | None]) -> str:
        """`go_on` is what to type when it no longer requeues itself; `instead` are options in place of the usual."""
        asked: dict[str, str | int | None] = {
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
            **instead,
            **self.options,
        }
        _check_options(asked)
        header = "\n".join(f"#SBATCH --{name}={value}" for name, value in asked.items() if value is not None)
        setup = "".join(f"{line}\n" for line in self.setup)
        return f"""#!/bin/bash
{header}
#SBATCH --requeue
set -uo pipefail
cd {shlex.quote(os.getcwd())}
export OMP_NUM_THREADS="${{SLURM_CPUS_PER_TASK:-1}}"
{setup}
# Not killed on a bad exit: one process ends a moment before the others, which are still saving.
srun --kill-on-bad-exit=0 --wait=60 {shlex.join(command)}
code=$?

# {PREEMPTED}: saved, and can go on; {TOLD_TOO_EARLY}: told before there was anything to save.
if [ "$code" -ne {PREEMPTED} ] && [ "$code" -ne {TOLD_TOO_EARLY} ]; then exit "$code"; fi
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
    echo "not back to the queue: launch.max_requeues={self.max_requeues} is used up. To go on: {go_on}"
fi
exit "$code"
"""


def _check_options(asked: Mapping[str, str | int | None]) -> None:
    for name, value in asked.items():
        if re.search(r"[\x00-\x1f\x7f]", str(value)) or not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise ConfigError(
                f"SLURM does not understand the option --{name}={value!r}: expected one line of text for a name of its "
                "own, such as '+launch.options.qos=high'"
            )


def _job_of(folder: Path) -> str | None:
    facts = job_record.read(folder) or {}
    return facts.get("job") if facts.get("launcher") == NAME else None


def client(program: str, *arguments: str, known: bool = True) -> str:
    """What a command of SLURM's answers; "" where it may refuse (a job that it has forgotten is not `known`).

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


def meeting_point() -> tuple[str, int]:
    """Address and port of the first process of a SLURM step, as every process of it finds them for itself."""
    port = PORTS[int(os.environ["SLURM_JOB_ID"]) % len(PORTS)]
    named = os.environ.get("MASTER_ADDR")
    if named is not None:
        return named, int(os.environ.get("MASTER_PORT", port))
    nodes = os.environ.get("SLURM_STEP_NODELIST", os.environ.get("SLURM_JOB_NODELIST", ""))
    first = client("scontrol", "show", "hostnames", nodes).splitlines()[0]
    try:
        return socket.gethostbyname(first), port
    except OSError:  # a node's name need not be its host's: SLURM knows the address
        shown = client("scontrol", "show", "node", first)
        return next(word.partition("=")[2] for word in shown.split() if word.startswith("NodeAddr=")), port
