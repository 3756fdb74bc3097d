"""Two commands that would write in one run directory: one does, the other is refused at once."""

import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

LONG = ("trainer.max_epochs=100000", "callbacks=none")


def winner_and_loser(program: Any, watched: Any, home: Path, *commands: tuple[str, ...]) -> tuple[Any, Any]:
    """Of two that are started at once: the one that goes on, and how the other ended."""
    processes = [watched(program.start(home, *command)) for command in commands]
    deadline = time.monotonic() + 180
    while all(each.popen.poll() is None for each in processes):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (lost,) = [each for each in processes if each.popen.poll() is not None]
    (won,) = [each for each in processes if each is not lost]
    return won, lost.end()


def stop(process: Any) -> int:
    process.trainers()
    process.send(signal.SIGTERM)
    code: int = process.end().code
    return code


@pytest.mark.parametrize("verb", ["evaluate", "resume", "diagnose"])
def test_of_a_resume_and_another_started_at_once_one_is_refused(
    program: Any, finished: Any, tmp_path: Path, watched: Any, verb: str
) -> None:
    folder = finished.copied_to(tmp_path / "home")
    resume = ("resume", f"run={folder.name}", "trainer.max_epochs=100000")
    other = resume if verb == "resume" else (verb, f"run={folder.name}")
    won, lost = winner_and_loser(program, watched, tmp_path / "home", resume, other)
    assert lost.code == 2 and "Traceback" not in lost.err
    assert f"{folder.name} is being " in lost.err and f"right now, by process {won.popen.pid} on " in lost.err
    assert stop(won) in (0, 75, 143, -signal.SIGTERM)  # an evaluation has nothing to save


@pytest.mark.slow  # tests/runs/test_lock.py has it without programs
@pytest.mark.cold  # warm ones are over before the other begins
def test_of_two_evaluations_at_once_one_is_refused(program: Any, finished: Any, tmp_path: Path, watched: Any) -> None:
    folder = finished.copied_to(tmp_path / "home")
    evaluate = ("evaluate", f"run={folder.name}")
    won, lost = winner_and_loser(program, watched, tmp_path / "home", evaluate, evaluate)
    assert lost.code == 2 and f"is being evaluated right now, by process {won.popen.pid}" in lost.err
    assert won.end().code == 0


def test_of_two_equal_commands_at_once_one_trains(program: Any, tmp_path: Path, watched: Any) -> None:
    command = ("train", *program.SMALL, *LONG, "name=one", "auto_resume=true")
    won, lost = winner_and_loser(program, watched, tmp_path / "home", command, command)
    assert lost.code == 2 and f"is being trained right now, by process {won.popen.pid}" in lost.err
    won.reaches(2)
    assert len(program.runs_in(tmp_path / "home")) == 1
    assert stop(won) in (75, 143)


def test_what_trains_is_seen_by_all_others_and_its_page_can_still_be_made(
    program: Any, tmp_path: Path, watched: Any
) -> None:
    home = tmp_path / "home"
    training = watched(program.start(home, "train", *program.SMALL, *LONG))
    training.reaches(12)
    name = program.only_run(home).name
    for verb in ("resume", "evaluate", "diagnose"):
        refused = program.run(home, verb, f"run={name}")
        assert refused.code == 2 and f"is being trained right now, by process {training.popen.pid}" in refused.err
        assert refused.err.rstrip().endswith(f"pipeline cancel {name}")
    assert program.run(home, "report", f"run={name}").code == 0
    assert program.run(home, "cancel", name).code == 0
    assert training.end().code == 75


def test_after_kill_9_of_its_parent_a_resume_waits_for_its_processes_and_trains_alone(
    program: Any, tmp_path: Path, watched: Any
) -> None:
    home = tmp_path / "home"
    training = watched(program.start(home, "train", *program.SMALL, *LONG))
    training.reaches(12)
    training.trainers()
    training.send(signal.SIGKILL)
    again = watched(program.start(home, "resume"))
    deadline = time.monotonic() + 180
    while "goes on at" not in again.out.read_text():
        assert again.popen.poll() is None and time.monotonic() < deadline, again.err.read_text()
        time.sleep(0.05)
    alive = [each for each in training.seen if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    assert alive == []
    assert stop(again) in (75, 143)
