"""Which process is to blame, told from how they ended, or from their pulses when they live and do not get on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.launch.failure_detection import (
    MIN_BEATS,
    UNPACED_FACTOR,
    Failure,
    FailureDetector,
    awaited_ranks,
    first_failure,
)
from pipeline.system import heartbeat
from pipeline.system.heartbeat import HeartbeatState, HeartbeatWriter, Phase

LIMIT = 0.3  # seconds of silence
SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]
SPINS = [sys.executable, "-c", "while True: pass"]


class Run:
    """Processes that do nothing (or spin) and beats that are given in their name."""

    def __init__(self, pages: Path, *commands: list[str]) -> None:
        self.pages = pages
        self.processes = [subprocess.Popen(command) for command in commands]
        for rank in range(len(commands)):
            heartbeat.create_heartbeat(pages, rank)
        self.pulses = [HeartbeatWriter(rank) for rank in range(len(commands))]
        self.watch = FailureDetector(self.processes, pages, LIMIT)

    def all_beat(self, phase: Phase, times: int = 1) -> None:
        for _ in range(times):
            for each in self.pulses:
                each.beat(phase)

    def entered(self, *collectives: int) -> None:
        for each, count in zip(self.pulses, collectives, strict=True):
            each.count_collectives(lambda count=count: count)  # type: ignore[misc]
        time.sleep(0.05)

    def hangs_within(self, seconds: float) -> Failure | None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            failure = self.watch.hang()
            if failure is not None:
                return failure
            time.sleep(0.02)
        return None


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv(heartbeat.FOLDER_VARIABLE, str(tmp_path))
    made = Run(tmp_path, *getattr(request, "param", (SLEEPS, SLEEPS)))
    yield made
    for process in made.processes:
        process.kill()
        process.wait()


BEFORE_AND_IN = {
    "set-up": (Phase.SET_UP, 0),
    "the first batch": (Phase.EPOCH_START, 1),
    "the first steps": (Phase.TRAINING, 1),
    "a step": (Phase.TRAINING, MIN_BEATS),
    "validation": (Phase.VALIDATION, MIN_BEATS),
    "the test": (Phase.TEST, MIN_BEATS),
    "the end of an epoch": (Phase.EPOCH_END, 1),
    "a checkpoint": (Phase.CHECKPOINT, 1),
    "the end of the run": (Phase.CLOSING, 1),
}


@pytest.mark.parametrize("where", BEFORE_AND_IN)
def test_the_process_missing_from_a_collective_operation_is_named(run: Run, where: str) -> None:
    phase, beats = BEFORE_AND_IN[where]
    run.all_beat(phase, beats)
    run.pulses[1].beat(phase)  # not the number of beats counts
    run.entered(7, 6)
    failure = run.hangs_within(2 * UNPACED_FACTOR * LIMIT)
    assert failure is not None and failure.ranks == (1,)
    assert phase.title in failure.description and "the others wait for it" in failure.description


def test_before_the_rendezvous_the_missing_process_is_named(run: Run) -> None:
    run.pulses[0].beat(Phase.MEETING)
    failure = run.hangs_within(2 * UNPACED_FACTOR * LIMIT)
    assert failure is not None and failure.ranks == (1,) and "setting up" in failure.description


def test_no_process_is_named_where_none_waits_for_another(run: Run) -> None:
    run.all_beat(Phase.VALIDATION, MIN_BEATS)
    run.entered(6, 6)
    failure = run.hangs_within(20 * LIMIT)
    assert failure is not None and failure.ranks == ()


def test_one_active_process_is_enough_to_rule_out_a_hang(run: Run) -> None:
    run.all_beat(Phase.TRAINING, MIN_BEATS)
    for _ in range(4):
        assert run.hangs_within(LIMIT / 2) is None
        run.pulses[1].beat(Phase.TRAINING)


@pytest.mark.parametrize("phase", [Phase.SET_UP, Phase.EPOCH_END, Phase.CHECKPOINT, Phase.CLOSING])
def test_a_phase_without_a_pace_may_take_several_times_as_long(run: Run, phase: Phase) -> None:
    run.all_beat(phase, 2 * MIN_BEATS)
    run.entered(7, 6)
    assert run.hangs_within(5 * LIMIT) is None


def test_steps_slower_than_the_limit_are_measured_by_their_own_pace(run: Run) -> None:
    """A validation that takes twenty times a step."""
    run.all_beat(Phase.TRAINING, 100)
    for _ in range(MIN_BEATS):
        run.all_beat(Phase.VALIDATION)
        time.sleep(LIMIT / 2)
    run.entered(7, 6)
    assert run.hangs_within(3 * LIMIT) is None


def test_a_detector_that_was_suspended_with_the_processes_reports_no_hang(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.launch.failure_detection.ASLEEP_SECONDS", 2 * LIMIT)
    run.all_beat(Phase.TRAINING, MIN_BEATS)
    time.sleep(4 * LIMIT)
    assert run.watch.hang() is None


@pytest.mark.parametrize("run", [(SLEEPS, SPINS)], indirect=True)
def test_a_process_that_uses_the_cpu_gets_more_time(run: Run) -> None:
    run.all_beat(Phase.SET_UP, 1)
    run.pulses[0].beat(Phase.MEETING)
    assert run.hangs_within(1.5 * UNPACED_FACTOR * LIMIT) is None


@pytest.mark.parametrize("run", [(SLEEPS,)], indirect=True)
class TestAProcessAlone:
    def test_a_single_process_gets_the_longest_limit(self, run: Run) -> None:
        run.all_beat(Phase.TRAINING, MIN_BEATS)
        assert run.hangs_within(5 * LIMIT) is None
        failure = run.hangs_within(2 * UNPACED_FACTOR * LIMIT)
        assert failure is not None and failure.ranks == (0,)

    def test_a_single_process_that_a_signal_stopped_may_wait(self, run: Run) -> None:
        os.kill(run.processes[0].pid, signal.SIGSTOP)
        run.all_beat(Phase.TRAINING, MIN_BEATS)
        assert run.hangs_within(1.5 * UNPACED_FACTOR * LIMIT) is None


def test_a_process_that_a_signal_stopped_is_named(run: Run) -> None:
    run.all_beat(Phase.CHECKPOINT)
    os.kill(run.processes[1].pid, signal.SIGSTOP)
    failure = run.hangs_within(20 * LIMIT)
    assert failure is not None and failure.ranks == (1,) and "stopped by a signal" in failure.description


def test_all_missing_processes_are_named() -> None:
    counts = {0: 5, 1: 4, 2: 5, 3: 4}
    beats = {rank: HeartbeatState(Phase.TRAINING, 9, 1.0, 0.1, count) for rank, count in counts.items()}
    assert awaited_ranks(beats) == [1, 3]


def test_a_killed_process_is_named_for_the_errors_of_the_others() -> None:
    failing = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    killed = subprocess.Popen(SLEEPS)
    killed.send_signal(signal.SIGKILL)
    failing.wait(), killed.wait()
    failure = first_failure([failing, killed])
    assert failure is not None and failure.ranks == (1,)


def test_a_process_that_saved_and_left_has_not_failed() -> None:
    left = subprocess.Popen([sys.executable, "-c", "raise SystemExit(75)"])
    left.wait()
    assert first_failure([left]) is None
