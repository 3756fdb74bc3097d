"""Real processes that wait for each other, of which some do not come."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pipeline.launch.local import free_port

PROGRAM = """# warm
import sys
from rich.console import Console
from pipeline.system.process import process_rank
from pipeline.system.heartbeat import HeartbeatWriter
from pipeline.training.distributed import rendezvous
from pipeline.training.interruption import Interruption
rendezvous.START_SECONDS, rendezvous.TELL_SECONDS = float(sys.argv[1]), 0.3
interruption = Interruption()
interruption.install()
here = process_rank()
met = rendezvous.Rendezvous(here, HeartbeatWriter(here.rank), Console(), interruption)
met.wait_until_started()
import torch.distributed
torch.distributed.init_process_group("gloo")
met.wait_until_set_up()
torch.distributed.barrier()
print("met")
"""


class Ranks:
    def __init__(self) -> None:
        self.port = str(free_port())
        self.started: list[subprocess.Popen[str]] = []

    def start(self, rank: int, of: int, seconds: float) -> "subprocess.Popen[str]":
        told = {"RANK": str(rank), "WORLD_SIZE": str(of), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": self.port}
        command = [sys.executable, "-c", PROGRAM, str(seconds)]
        pipe = subprocess.PIPE
        self.started.append(subprocess.Popen(command, env=os.environ | told, stdout=pipe, stderr=pipe, text=True))
        return self.started[-1]


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    made = Ranks()
    yield made
    for each in made.started:
        each.kill()
        each.communicate()


def test_processes_that_have_all_come_go_on_together(ranks: Ranks) -> None:
    started = [ranks.start(rank, 3, 60) for rank in (2, 1, 0)]
    assert [each.communicate(timeout=90)[0].splitlines()[-1] for each in started] == ["met"] * 3


def test_processes_that_have_come_name_the_missing_ones(ranks: Ranks) -> None:
    first, second = ranks.start(0, 4, 8), ranks.start(2, 4, 8)
    for each in (first, second):
        out, err = each.communicate(timeout=90)
        assert each.returncode != 0
        assert any(
            told in err for told in ("processes 1, 3 of 4", "process 0 of 4", "2, 3 of 4", "process 0, which")
        ), err
        assert "unset RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT" in err
    assert "waiting for process" in out


def test_waiting_processes_fail_when_the_first_one_ends(ranks: Ranks) -> None:
    first = ranks.start(0, 3, 600)
    assert first.stdout is not None and "waiting for processes 1, 2 of 3" in first.stdout.readline()
    second = ranks.start(2, 3, 600)
    assert second.stdout is not None and "waiting for process 1 of 3" in second.stdout.readline()
    first.kill()
    _, err = second.communicate(timeout=90)
    assert "process 0, which holds the place, ended" in err and "unset RANK WORLD_SIZE" in err


def test_the_first_process_is_named_as_missing_too(ranks: Ranks) -> None:
    alone = ranks.start(1, 2, 1)
    _, err = alone.communicate(timeout=90)
    assert f"process 1 waited 1 s for process 0 of 2, which did not come to 127.0.0.1:{ranks.port}" in err


def test_a_signal_ends_the_wait_for_other_processes(ranks: Ranks) -> None:
    alone = ranks.start(0, 2, 600)
    assert alone.stdout is not None and "waiting for process 1 of 2" in alone.stdout.readline()
    alone.send_signal(signal.SIGTERM)
    _, err = alone.communicate(timeout=90)
    assert "Interrupted" in err
