"""Processes on this machine, one for each device, that begin and end together."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from pipeline.errors import ConfigError
from pipeline.launch.devices import core_count, machine_is_busy, process_count
from pipeline.launch.launcher import Resources
from pipeline.process import Place, environment_of

POLL_SECONDS = 0.05
GRACE_SECONDS = 10.0  # for the others, once one process has failed
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Local:
    """The processes are children in a process group each, so that a signal reaches each of them exactly once:
    from here, and not also from the terminal."""

    def resources(self, *, devices: int | str | list[int], accelerator: str, num_nodes: int) -> Resources:
        if num_nodes != 1:
            raise ConfigError(
                f"trainer.num_nodes={num_nodes} needs a launcher that reaches other machines: launch=slurm, "
                "launch=torchrun or launch=kubernetes; launch=local has this one, trainer.num_nodes=1"
            )
        return Resources(1, process_count(devices, accelerator))

    def run(self, command: list[str], resources: Resources, folder: Path) -> int:
        with ExitStack() as stack:
            processes = [
                self._start(command, Place(rank, count, rank, count), port, folder, stack)
                for port, count in [(_free_port(), resources.processes_per_node)]
                for rank in range(count)
            ]
            stack.callback(_end, processes)
            _forward_signals(processes)
            return _wait(processes, folder)

    def _start(
        self, command: list[str], place: Place, port: int, folder: Path, stack: ExitStack
    ) -> subprocess.Popen[bytes]:
        environment = os.environ | environment_of(place, master_address="127.0.0.1", master_port=port)
        # Several processes that each use all cores spin against each other: 20 ms became 200.
        environment.setdefault("OMP_NUM_THREADS", str(max(core_count() // place.world_size, 1)))
        if machine_is_busy():
            environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        log = None if place.is_first else stack.enter_context((folder / f"rank{place.rank}.log").open("ab"))
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
        )


def _free_port() -> int:
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


def _wait(processes: list[subprocess.Popen[bytes]], folder: Path) -> int:
    """Until all have ended; when one fails, the others get GRACE_SECONDS."""
    while True:
        codes = [process.poll() for process in processes]
        if all(code is not None for code in codes):
            break
        if any(code not in (None, 0) for code in codes):
            deadline = time.monotonic() + GRACE_SECONDS
            while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
            break
        time.sleep(POLL_SECONDS)
    failed = [(rank, code) for rank, code in enumerate(codes) if code not in (None, 0)]
    _end(processes)
    if not failed:
        return max((process.returncode for process in processes), key=abs)
    rank, code = failed[0]
    assert code is not None
    if rank > 0:
        tail = (folder / f"rank{rank}.log").read_text(errors="replace").splitlines()[-15:]
        print(
            f"process {rank} of {len(processes)} failed with exit code {code}:",
            *tail,
            sep="\n  ",
            file=sys.stderr,
        )
    # A process that a signal ended has a negative code here; a shell would say 128 + signal.
    return code if code > 0 else 128 - code


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
