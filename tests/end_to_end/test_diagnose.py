"""Runs with planted faults, trained by the real program; python -m benchmarks diagnose counts more of them."""

import re
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.planted import CASES


def diagnosed(program: Any, home: Path, name: str) -> str:
    """What is said of a run of this case."""
    case = CASES[name]
    home.mkdir(parents=True)
    if case.write is not None:
        case.write(home, 0)
    program.run(home, *case.command(0))
    ended = program.run(home, "diagnose")
    assert ended.code == 0 and "Traceback" not in ended.err, ended.err
    said: str = ended.out
    return said


def heading(program: Any, home: Path, said: str) -> str:
    """The faults; warnings of the data may come before them."""
    name = program.only_run(home).name
    (line,) = [line for line in said.splitlines() if line.startswith(name)]
    return line.partition(": ")[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.fault])
def test_the_planted_fault_comes_first(program: Any, tmp_path: Path, name: str) -> None:
    said = diagnosed(program, tmp_path / "home", name)
    assert heading(program, tmp_path / "home", said).partition(",")[0].partition(" (")[0] == CASES[name].fault


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.fault is None])
def test_nothing_is_found_where_nothing_is_wrong(program: Any, tmp_path: Path, name: str) -> None:
    assert "no fault found" in diagnosed(program, tmp_path / "home", name)


def test_a_diagnosis_is_printed_and_kept_with_a_command_that_works(program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    said = diagnosed(program, home, "leaps until it is no number")
    (command,) = re.findall(r"pipeline (train .*)", said)
    assert "optimizer.learning_rate=1 " in f"{command} " and "the loss is inf at step" in said
    kept = (program.only_run(home) / "diagnosis.md").read_text()
    assert "## Learning rate too high" in kept and command in kept
    assert program.run(home, *command.split(), "--cfg", "job").code == 0


@pytest.mark.slow
def test_wrong_labels_are_listed_with_what_they_look_like(program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    said = diagnosed(program, home, "wrong labels in the training pictures")
    assert heading(program, home, said).startswith("label noise") and "looks like" in said
    run = program.only_run(home)
    assert (run / "suspicious.html").read_text().count("<img") == 24
    assert (run / "diagnosis.md").read_text().count("| row ") == 24


def test_a_run_that_has_not_started_is_refused(program: Any, finished: Any, tmp_path: Path) -> None:
    run = finished.copied_to(tmp_path)
    (run / "journal.jsonl").unlink()
    ended = program.run(tmp_path, "diagnose")
    assert ended.code == 2 and "has not started yet" in ended.err


def test_a_run_without_a_checkpoint_is_told_what_is_left_to_see(program: Any, finished: Any, tmp_path: Path) -> None:
    run = finished.copied_to(tmp_path)
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    ended = program.run(tmp_path, "diagnose")
    assert ended.code == 0 and "not checked: what needs a checkpoint" in ended.out
