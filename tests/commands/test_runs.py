"""Runs that wait, are damaged or are many, as `pipeline runs` tells of them."""

import shutil
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.commands import runs
from pipeline.tracking.journal import Journal


@pytest.fixture
def waiting(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The directory of a run that nobody has submitted yet."""
    assert main(["train", "launch=slurm", "launch.dry_run=true", "tracking=none"]) == 0
    capsys.readouterr()
    (folder,) = (empty_folder / "runs").iterdir()
    return folder


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(arguments) == code
    said = capsys.readouterr()
    return said.out if code == 0 else said.err


def test_a_run_that_was_not_submitted_has_not_started(waiting: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{waiting.name}  NOT STARTED  0/10 " in told(capsys, "runs")
    assert "nothing to cancel" in told(capsys, "cancel", waiting.name, code=2)
    assert told(capsys, "logs", waiting.name, "--follow") == "--- NOT STARTED\n"


def test_a_damaged_run_hides_no_other_and_is_named(waiting: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = waiting.with_name("20260131-120000-broken-1a2b")
    shutil.copytree(waiting, damaged)
    (damaged / "config.yaml").write_text("{")
    listed = told(capsys, "runs")
    assert f"{damaged.name}" in listed and "  DAMAGED " in listed
    assert f"{waiting.name}  NOT STARTED " in listed
    assert str(damaged) in told(capsys, "runs", "show", damaged.name, code=2)


def test_of_a_long_list_the_newest_are_shown(waiting: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(32):
        shutil.copytree(waiting, waiting.with_name(f"20260101-0000{number:02}-old-1a2b"))
    short = told(capsys, "runs").splitlines()
    assert len(short) == 1 + 30 + 1 and waiting.name in short[-2]
    assert short[-1] == "and 3 older ones: pipeline runs last=all"
    assert len(told(capsys, "runs", "last=all").splitlines()) == 1 + 33
    assert "last=0: expected" in told(capsys, "runs", "last=0", code=2)


def test_a_run_of_a_torchrun_of_the_users_own_is_not_ours_to_cancel(
    waiting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (waiting / "job.json").unlink()
    journal = Journal(waiting / "journal.jsonl")
    journal.note("under way")
    assert f"{waiting.name}  RUNNING " in told(capsys, "runs")
    assert "of your own" in told(capsys, "cancel", waiting.name, code=2)
    journal.close()
    assert f"{waiting.name}  INTERRUPTED " in told(capsys, "runs")


def test_one_that_follows_hears_each_line_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "job.log"
    tail = runs.Tail(path, str)
    assert list(tail.new_lines()) == []
    path.write_text("one\ntw")
    assert list(tail.new_lines()) == ["one"]
    path.write_text("one\ntwo\n")
    assert list(tail.new_lines()) == ["two"]
