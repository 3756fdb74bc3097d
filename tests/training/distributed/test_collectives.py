"""Real processes that gather what each has, of which one ends or is on another host."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.launch.local import free_port

Start = Callable[..., list["subprocess.Popen[str]"]]
PROGRAM = """# warm
import os, platform, sys, time
import torch
from torch import distributed
from pipeline.training.distributed import collectives
rank, world_size, port, case = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
if case == "hosts":
    platform.node = lambda: f"host{rank}"
if case == "long":
    import tempfile
    tempfile.tempdir = sys.argv[5]
distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world_size)
def own(step, rank):  # of all sizes: some fill the buffers of a socket
    size = (1, 7, 1000, 200_000)[step % 4]
    return torch.arange(size, dtype=torch.float64).view(1, -1) + 1000 * step + rank
before = collectives.collectives_entered()
for step in range(40):
    if step % 10 == rank:
        time.sleep(0.02)  # others go ahead, as far as they get
    gathered = collectives.all_gather(own(step, rank))
    assert torch.equal(gathered, torch.stack([own(step, each) for each in range(world_size)])), step
assert collectives.collectives_entered() >= before + 40
print("by", "sockets" if collectives._host[1] is not None else "gloo", flush=True)
if case == "ends":
    if rank == 1:
        time.sleep(600)
    collectives.all_gather(torch.zeros(3))
distributed.barrier()
"""


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start(world_size: int, *words: str) -> list["subprocess.Popen[str]"]:
        port = str(free_port())
        for rank in range(world_size):
            command = [sys.executable, "-c", PROGRAM, str(rank), str(world_size), port, *words]
            started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("world_size", [2, 4])
def test_all_processes_gather_the_same_in_the_order_of_ranks(start: Start, world_size: int) -> None:
    for process in start(world_size, "one host"):
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0 and out == "by sockets\n", err


def test_processes_of_different_hosts_gather_through_gloo(start: Start) -> None:
    assert [process.communicate(timeout=120)[0] for process in start(2, "hosts")] == ["by gloo\n"] * 2


def test_processes_with_a_long_path_of_temporary_files_gather_through_gloo(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    assert [process.communicate(timeout=120)[0] for process in start(2, "long", str(folder))] == ["by gloo\n"] * 2
    assert list(folder.iterdir()) == []


def test_a_waiting_process_fails_when_another_has_ended(start: Start) -> None:
    first, second = start(2, "ends")
    assert second.stdout is not None and second.stdout.readline() == "by sockets\n"
    second.send_signal(signal.SIGKILL)
    _, err = first.communicate(timeout=60)
    assert "ConnectionError: another process of the run ended" in err
