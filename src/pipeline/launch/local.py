"""The launcher for this machine: one process for each device, which start and end together."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType

from pipeline import run_files
from pipeline.constraints import PositiveFloat
from pipeline.errors import FAILED, ConfigError
from pipeline.launch import failure_detection, job_record
from pipeline.launch.devices import core_count, machine_is_busy, oom_kills, process_count
from pipeline.launch.failure_detection import Failure, FailureDetector, first_failure
from pipeline.launch.launcher import FORWARDED_SIGNALS, Resources
from pipeline.system import heartbeat
from pipeline.system.files import temporary_folder
from pipeline.system.process import INHERITED_FILES, PARENT_VARIABLE, Rank, rank_environment

POLL_SECONDS = 0.05
GRACE_SECONDS = 10.0  # for the others, once one process has failed
END_SECONDS = 5.0  # a process that waits in the kernel for a dead file system cannot be ended
GRACE_AFTER_HANG_SECONDS = 4.0
LINES_SHOWN = 15
LOG = "run.log"  # of the run's first process; also says why the processes were ended
NAME = "local"  # in the job record


class Local:
    """Starts each process in a process group of its own, so that a signal reaches it once: not from the terminal too.

    Processes that make no progress for `hang_seconds`, and longer for slow phases (see FailureDetector), count as
    failed; null waits forever.
    """

    def __init__(self, *, hang_seconds: PositiveFloat | None) -> None:
        self.hang_seconds = hang_seconds

    def resources(self, *, devices: int | str | list[int], accelerator: str, num_nodes: int) -> Resources:
        if num_nodes != 1:
            raise ConfigError(
                f"trainer.num_nodes={num_nodes} needs a launcher that reaches other machines: launch=slurm or "
                "launch=torchrun; launch=local has this one, trainer.num_nodes=1"
            )
        return Resources(1, process_count(devices, accelerator))

    def run(self, command: list[str], resources: Resources, folder: Path) -> int:
        count = resources.processes_per_node
        with ExitStack() as stack:
            pages = stack.enter_context(temporary_folder())
            port = free_port()
            job_record.record_this_process(folder, NAME)
            processes = [
                self._start(command, Rank(rank, count, rank, count), port, folder, pages, stack)
                for rank in range(count)
            ]
            stack.callback(_end, processes)
            _forward_signals(processes)
            return self._wait(processes, folder, pages)

    def state(self, folder: Path) -> str | None:
        return "RUNNING" if job_record.launcher_process_of(folder, NAME) is not None else None

    def cancel(self, folder: Path) -> str:
        return job_record.cancel_launcher(folder, NAME)

    def _start(
        self, command: list[str], rank: Rank, port: int, folder: Path, pages: Path, stack: ExitStack
    ) -> subprocess.Popen[bytes]:
        environment = os.environ | rank_environment(rank, master_address="127.0.0.1", master_port=port)
        environment[PARENT_VARIABLE] = str(os.getpid())
        environment[heartbeat.FOLDER_VARIABLE] = str(pages)
        heartbeat.create_heartbeat(pages, rank.rank)
        # Several processes that use all cores each slow each other down: 20 ms became 200.
        environment.setdefault("OMP_NUM_THREADS", str(max(core_count() // rank.world_size, 1)))
        if machine_is_busy():
            environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        log = None if rank.is_first else stack.enter_context((folder / f"rank{rank.rank}.log").open("ab"))
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
            pass_fds=tuple(INHERITED_FILES),
        )

    def _wait(self, processes: list[subprocess.Popen[bytes]], folder: Path, pages: Path) -> int:
        """Wait until all have ended; when one fails, or none makes progress, the others get some seconds."""
        kills = oom_kills()
        watch = None if self.hang_seconds is None else FailureDetector(processes, pages, self.hang_seconds)
        while any(process.poll() is None for process in processes):
            failure = first_failure(processes, kills) or (None if watch is None else watch.hang())
            if failure is not None:
                return _end_all(failure, processes, folder, pages)
            time.sleep(POLL_SECONDS)
        failure = first_failure(processes, kills)
        if failure is not None:
            return _end_all(failure, processes, folder, pages)
        return max(process.returncode for process in processes)


def _end_all(failure: Failure, processes: list[subprocess.Popen[bytes]], folder: Path, pages: Path) -> int:
    answers = failure_detection.collect_stacks(processes, pages) if failure.is_hang else []
    if failure.is_hang:
        # The others lose their connection and end by themselves; the first can still record how the run ended.
        for rank in failure.ranks or range(1, len(processes)):
            processes[rank].kill()
    deadline = time.monotonic() + (GRACE_AFTER_HANG_SECONDS if failure.is_hang else GRACE_SECONDS)
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    _end(processes)
    if failure.is_hang:
        _report_hang(failure, answers, folder)
        return FAILED
    (rank,) = failure.ranks
    was_killed = failure.code < 0
    if rank > 0 or was_killed:
        lines = _last_lines(folder / f"rank{rank}.log") if rank > 0 else []
        sentence = f"process {rank} of {len(processes)} {failure.description}"
        print(f"{sentence}:" if lines else sentence, *lines, sep="\n  ", file=sys.stderr)
    if was_killed:
        _print_resume_command(folder)
    # A process that a signal ended has a negative code here; a shell would say 128 + signal.
    return failure.code if failure.code > 0 else 128 - failure.code


def _report_hang(failure: Failure, answers: list[list[str]], folder: Path) -> None:
    """Print where every process hung in short, and append the whole stacks to the run's log."""
    numbers = " and ".join(str(rank) for rank in failure.ranks)
    subject = f"process {numbers} of {len(answers)}" if failure.ranks else f"the {len(answers)} processes have"
    sentence = f"{subject} {failure.description}"
    print(f"{sentence}:", file=sys.stderr)
    others = [rank for rank in range(len(answers)) if rank not in failure.ranks]
    for rank in (*failure.ranks, *others):
        print(f"process {rank}:", *failure_detection.training_thread(answers[rank]), sep="\n  ", file=sys.stderr)
    failure_detection.append_stacks(folder / LOG, sentence, answers)
    _print_resume_command(folder)


def _print_resume_command(folder: Path) -> None:
    if (folder / run_files.JOURNAL.name).exists():  # else it had not begun, and nothing is left of it
        print(f"to go on from what was saved: pipeline resume run={folder.name}", file=sys.stderr)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _forward_signals(processes: list[subprocess.Popen[bytes]]) -> None:
    def forward(number: int, frame: FrameType | None) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    for number in FORWARDED_SIGNALS:
        signal.signal(number, forward)


def _last_lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-LINES_SHOWN:]


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
