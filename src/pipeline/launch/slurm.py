"""SLURM: one readable sbatch script in the run directory, submitted; no process of ours waits for it."""

import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import DONE, PREEMPTED, ConfigError, RunError
from pipeline.launch import job
from pipeline.launch.launcher import Resources
from pipeline.launch.units import mebibytes_of, seconds_of

SCRIPT, LOG = "job.sh", "job.log"
CLIENT_SECONDS = 30  # what a command of SLURM's may take
UNDER_WAY = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED", "STOPPED")
PORTS = range(20_000, 40_000)


class Slurm:
    """`sbatch`, with one task for each GPU (or `processes_per_node`), that requeues itself.

    When the time is nearly up (`notice_seconds` before) or the scheduler wants the nodes, the run saves and the job
    goes back to the queue, `max_requeues` times; it then goes on at the very step. `options` are further #SBATCH
    options {"qos": "high"}; `setup` lines of shell that come before (module load ...).
    """

    def __init__(
        self,
        *,
        nodes: int,
        gpus_per_node: int,
        processes_per_node: int | None,
        cpus_per_process: int | None,
        time: str,
        memory_per_node: str | None,
        partition: str | None,
        account: str | None,
        options: Mapping[str, str | int | None],
        setup: Sequence[str],
        max_requeues: int,
        notice_seconds: int,
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

    def resources(self, *, devices: int | str | list[int], accelerator: str, num_nodes: int) -> Resources:
        return Resources(self.nodes, self.processes_per_node)

    def run(self, command: list[str], resources: Resources, folder: Path) -> int:
        script = folder / SCRIPT
        script.write_text(self.script(command, folder), encoding="utf-8")
        if self.dry_run:
            job.note(folder, launcher="slurm", job=None)
            print(f"run         {folder}\nscript      {script}\nsubmit it   sbatch {shlex.quote(str(script))}")
            return DONE
        number = client("sbatch", "--parsable", str(script)).partition(";")[0]
        job.note(folder, launcher="slurm", job=number)
        print(
            f"run         {folder}\njob         {number}\nfollow      pipeline logs {folder.name} --follow\n"
            f"cancel      pipeline cancel {folder.name}"
        )
        return DONE

    def state(self, folder: Path) -> str | None:
        facts = job.read(folder)
        if facts is None or facts.get("job") is None:
            return None
        answer = client("squeue", "--noheader", f"--jobs={facts['job']}", "--states=all", "--format=%T", known=False)
        return answer if answer in UNDER_WAY else None

    def cancel(self, folder: Path) -> str:
        facts = job.read(folder) or {}
        client("scancel", str(facts["job"]))
        return f"job {facts['job']} is cancelled"

    def script(self, command: list[str], folder: Path) -> str:
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
            **self.options,
        }
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

# {PREEMPTED}: saved, and can go on. A job that somebody cancelled is no longer RUNNING.
state=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)
restarts=${{SLURM_RESTART_COUNT:-0}}
if [ "$code" -eq {PREEMPTED} ] && [ "$state" = RUNNING ] && [ "$restarts" -lt {self.max_requeues} ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
"""


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
