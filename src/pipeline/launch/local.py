"""Processes on this machine, one for each device, that begin and end together."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from pipeline import pulse
from pipeline.errors import FAILED, ConfigError
from pipeline.launch import parent
from pipeline.launch.devices import core_count, machine_is_busy, oom_kills, process_count
from pipeline.launch.launcher import Resources
from pipeline.launch.watch import Failure, first_failure
from pipeline.process import PARENT, Place, environment_of

POLL_SECONDS = 0.05
GRACE_SECONDS = 10.0  # for the others, once one process has failed
SECONDS_TO_FOLLOW = 120.0  # for the others, once one is done: the first draws figures and waits for its sidecar
GRACE_AFTER_HANG_SECONDS = 4.0
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
LINES_SHOWN = 15
NAME = "local"  # in the note about who launched the run


class Local:
    """The processes are children in a process group each, so that a signal reaches each of them exactly once:
    from here, and not also from the terminal.

    One that has not moved for `hang_seconds` (and ten times its longest step) while others wait for it counts as
    failed; null waits for ever.
    """

    def __init__(self, *, hang_seconds: float | None) -> None:
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
            pulses = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pipeline-")))
            port = free_port()
            parent.note(folder, NAME)
            processes = [
                self._start(command, Place(rank, count, rank, count), port, folder, pulses, stack)
                for rank in range(count)
            ]
            stack.callback(_end, processes)
            _forward_signals(processes)
            return self._wait(processes, folder, pulses)

    def state(self, folder: Path) -> str | None:
        return "RUNNING" if parent.of(folder, NAME) is not None else None

    def cancel(self, folder: Path) -> str:
        return parent.cancel(folder, NAME)

    def _start(
        self, command: list[str], place: Place, port: int, folder: Path, pulses: Path, stack: ExitStack
    ) -> subprocess.Popen[bytes]:
        environment = os.environ | environment_of(place, master_address="127.0.0.1", master_port=port)
        environment[PARENT] = str(os.getpid())
        if place.world_size > 1:
            environment[pulse.FOLDER] = str(pulses)
        # Several processes that each use all cores spin against each other: 20 ms became 200.
        environment.setdefault("OMP_NUM_THREADS", str(max(core_count() // place.world_size, 1)))
        if machine_is_busy():
            environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        log = None if place.is_first else stack.enter_context((folder / f"rank{place.rank}.log").open("ab"))
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
        )

    def _wait(self, processes: list[subprocess.Popen[bytes]], folder: Path, pulses: Path) -> int:
        """Until all have ended; when one fails or leaves, the others get some seconds."""
        deadline: float | None = None
        kills = oom_kills()
        while any(process.poll() is None for process in processes):
            failure = first_failure(processes, pulses, self.hang_seconds, kills)
            if failure is not None:
                return self._end_all(failure, processes, folder)
            if deadline is None and any(process.poll() is not None for process in processes):
                deadline = time.monotonic() + SECONDS_TO_FOLLOW
            if deadline is not None and time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
        _end(processes)
        failure = first_failure(processes, pulses, None, kills)
        if failure is not None:
            return self._end_all(failure, processes, folder)
        return max(process.returncode for process in processes)

    def _end_all(self, failure: Failure, processes: list[subprocess.Popen[bytes]], folder: Path) -> int:
        culprit = processes[failure.rank]
        hangs = culprit.poll() is None
        if hangs:
            # It tells in its log where it stands; the others then lose their connection and end by themselves.
            culprit.send_signal(signal.SIGUSR2)
            time.sleep(10 * POLL_SECONDS)
            culprit.kill()
        deadline = time.monotonic() + (GRACE_AFTER_HANG_SECONDS if hangs else GRACE_SECONDS)
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        _end(processes)
        could_not_tell = hangs or failure.code < 0
        if failure.rank > 0 or could_not_tell:
            lines = _last_lines(folder / f"rank{failure.rank}.log") if failure.rank > 0 else []
            sentence = f"process {failure.rank} of {len(processes)} {failure.what}"
            print(f"{sentence}:" if lines else sentence, *lines, sep="\n  ", file=sys.stderr)
        if could_not_tell:
            print(f"to go on from what was saved: pipeline resume run={folder.name}", file=sys.stderr)
        # A process that a signal ended has a negative code here; a shell would say 128 + signal.
        return FAILED if hangs else failure.code if failure.code > 0 else 128 - failure.code


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

    for number in FORWARDED:
        signal.signal(number, forward)


def _last_lines(log: Path) -> list[str]:
    lines = log.read_text(errors="replace").splitlines()
    stacks = [number for number, line in enumerate(lines) if line.endswith("(most recent call first):")]
    return lines[stacks[-1] + 1 :][:LINES_SHOWN] if stacks else lines[-LINES_SHOWN:]


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
