"""Which process is to blame, told from how they ended and from their pulses."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import pulse
from pipeline.launch.watch import STEPS_SEEN, first_failure
from pipeline.pulse import Pulse

LIMIT = 0.2  # seconds of silence


@pytest.fixture
def sleeping() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(2)]
    yield processes
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def pulses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Pulse]:
    monkeypatch.setenv(pulse.FOLDER, str(tmp_path))
    found = [Pulse(0), Pulse(1)]
    for _ in range(STEPS_SEEN):
        for each in found:
            each.beat()
    return found


def test_of_processes_that_all_wait_the_one_that_got_the_least_far_is_to_blame(
    sleeping: list[subprocess.Popen[bytes]], pulses: list[Pulse], tmp_path: Path
) -> None:
    pulses[0].beat()
    assert first_failure(sleeping, tmp_path, LIMIT) is None
    time.sleep(2 * LIMIT)
    failure = first_failure(sleeping, tmp_path, LIMIT)
    assert failure is not None and failure.rank == 1 and "has not moved" in failure.what
    assert first_failure(sleeping, tmp_path, None) is None, "null waits for ever"


def test_one_that_moves_is_enough(sleeping: list[subprocess.Popen[bytes]], pulses: list[Pulse], tmp_path: Path) -> None:
    time.sleep(2 * LIMIT)
    pulses[1].beat()
    assert first_failure(sleeping, tmp_path, LIMIT) is None


def test_what_may_take_its_time_is_not_a_hang(
    sleeping: list[subprocess.Popen[bytes]], pulses: list[Pulse], tmp_path: Path
) -> None:
    pulses[0].rest()
    time.sleep(2 * LIMIT)
    assert first_failure(sleeping, tmp_path, LIMIT) is None


def test_a_run_of_slow_steps_is_given_more_time(
    sleeping: list[subprocess.Popen[bytes]], pulses: list[Pulse], tmp_path: Path
) -> None:
    time.sleep(2 * LIMIT)
    for each in pulses:
        each.beat()
    time.sleep(2 * LIMIT)
    assert first_failure(sleeping, tmp_path, LIMIT) is None


def test_a_killed_process_is_to_blame_for_the_errors_of_the_others(tmp_path: Path) -> None:
    failing = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    killed = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    killed.send_signal(signal.SIGKILL)
    failing.wait(), killed.wait()
    failure = first_failure([failing, killed], tmp_path, None)
    assert failure is not None and failure.rank == 1


def test_a_process_that_saved_and_left_has_not_failed(tmp_path: Path) -> None:
    left = subprocess.Popen([sys.executable, "-c", "raise SystemExit(75)"])
    left.wait()
    assert first_failure([left], tmp_path, None) is None
