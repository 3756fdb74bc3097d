"""A real torchrun with two processes: it starts again what was killed, and its ranks are taken as they are."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.commands import chaos
from pipeline.runs.run_directory import Run
from pipeline.tracking import journal

pytestmark = pytest.mark.slow
AGENT = "torch.distributed.run"
PATIENCE_SECONDS = 300.0
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # more would add up in another order
LONG = ("trainer.accelerator=cpu", "trainer.max_epochs=20", "callbacks=none")


def workers(agent: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return chaos.processes_of(agent.pid, "pipeline.lifecycle.training_process")


def typed(program: Any, home: Path) -> tuple[Path, list[str]]:
    """What the program tells to type on each of two nodes, which meet on this machine, and the run's directory."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = f"launch.rendezvous=127.0.0.1:{probe.getsockname()[1]}"
    two = ("launch=torchrun", "launch.nodes=2", "launch.processes_per_node=1", meeting)
    told = program.run(home, "train", *program.SMALL, *LONG, *two)
    assert told.code == 0, told.err
    (line,) = (line for line in told.out.splitlines() if AGENT in line)
    return program.only_run(home), ["env", *shlex.split(line)]


@pytest.fixture
def agents(tmp_path: Path) -> Any:
    """Starts what was told, as if on a node of its own; none outlives the test."""
    started: list[psutil.Popen] = []

    def start(command: list[str], home: Path) -> psutil.Popen:
        with (tmp_path / f"agent{len(started)}.log").open("wb") as log:
            agent = psutil.Popen(command, cwd=home, env=os.environ | ONE_THREAD, stdout=log, stderr=log)
        started.append(agent)
        return agent

    yield start
    for agent in started:
        if agent.is_running():
            for each in [*workers(agent), agent]:
                each.kill()
            agent.wait()


def wait_for_step(run_dir: Path, step: int, *running: psutil.Popen) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while chaos.newest_step(run_dir) < step:
        assert all(each.poll() is None for each in running) and time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def peace(program: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What two processes come to that nobody disturbs."""
    home = tmp_path_factory.mktemp("peace") / "home"
    ended = program.run(home, "train", *program.SMALL, *LONG, "trainer.devices=2", **ONE_THREAD)
    assert ended.code == 0, ended.err
    return Run(program.only_run(home))


def test_a_killed_process_starts_again_by_itself_and_ends_with_the_same_weights(
    program: Any, tmp_path: Path, watched: Any, peace: Run
) -> None:
    torchrun = ("launch=torchrun", "launch.processes_per_node=2")
    process = watched(program.start(tmp_path / "killed", "train", *program.SMALL, *LONG, *torchrun, **ONE_THREAD))
    process.reaches(20)
    victim = workers(process.popen)[-1]
    victim.send_signal(signal.SIGKILL)
    ended = process.end()
    assert ended.code == 0, ended.err
    assert "goes on at  step" in ended.out
    assert chaos.run_differences(peace, Run(program.only_run(tmp_path / "killed"))) == []


def test_two_agents_start_a_killed_worker_again_and_end_with_the_same_weights(
    program: Any, tmp_path: Path, agents: Any, peace: Run
) -> None:
    run_dir, command = typed(program, tmp_path / "killed")
    first, second = (agents(command, tmp_path / "killed") for _ in range(2))
    wait_for_step(run_dir, 20, first, second)
    (victim,) = workers(second)
    victim.kill()
    assert (first.wait(PATIENCE_SECONDS), second.wait(PATIENCE_SECONDS)) == (0, 0)
    assert any(record["kind"] == "resume" for record, _ in journal.read_journal(run_dir / "journal.jsonl"))
    assert chaos.run_differences(peace, Run(run_dir)) == []


def test_the_command_is_typed_again_where_an_agent_was_lost(program: Any, tmp_path: Path, agents: Any) -> None:
    run_dir, command = typed(program, tmp_path / "home")
    host = agents(command, tmp_path / "home")
    time.sleep(3)  # it hosts what both meet by; the loss of that one is the loss of all
    guest = agents(command, tmp_path / "home")
    wait_for_step(run_dir, 20, host, guest)
    lost = [*workers(guest), psutil.Process(guest.pid)]
    for each in lost:
        each.kill()
    again = agents(command, tmp_path / "home")
    assert (host.wait(PATIENCE_SECONDS), again.wait(PATIENCE_SECONDS)) == (0, 0)
    assert program.result(run_dir)["status"] == "FINISHED"
    assert any(record["kind"] == "resume" for record, _ in journal.read_journal(run_dir / "journal.jsonl"))


def test_a_run_that_torchrun_trains_here_is_listed_and_cancelled(program: Any, tmp_path: Path, watched: Any) -> None:
    endless = ("trainer.accelerator=cpu", "trainer.max_epochs=100000", "callbacks=none")
    torchrun = ("launch=torchrun", "launch.processes_per_node=2")
    process = watched(program.start(tmp_path / "home", "train", *program.SMALL, *endless, *torchrun))
    process.reaches(20)
    assert "  RUNNING " in program.run(tmp_path / "home", "runs").out
    cancelled = program.run(tmp_path / "home", "cancel")
    assert cancelled.code == 0 and "saved and ended" in cancelled.out
    ended = process.end()
    assert ended.code == 75 and "stopped; step-" in ended.out
    assert "  KILLED " in program.run(tmp_path / "home", "runs").out


def test_the_ranks_of_a_torchrun_of_the_users_own_are_one_run(program: Any, tmp_path: Path) -> None:
    own = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "pipeline"]
    words = ["train", *program.SMALL, "trainer.accelerator=cpu"]
    ended = subprocess.run([*own, *words], cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False)
    assert ended.returncode == 0, ended.stderr
    assert program.result(program.only_run(tmp_path))["status"] == "FINISHED"
    assert "2 x cpu" in ended.stdout and ended.stdout.count("test/accuracy") == 1
