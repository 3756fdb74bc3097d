"""Ctrl-C, a scheduler's SIGTERM, and `kill -9` of the process that the user started."""

import re
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.end_to_end.conftest import PATIENCE_SECONDS

from pipeline.tracking.mlflow.mlflow_client import mlflow_client

ENDLESS = ("trainer.max_epochs=100000", "callbacks=none")


@pytest.fixture(scope="module")
def interrupted(program: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tracked run ended by Ctrl-C: (its directory, how it ended, how a resume ended while it trained)."""
    root = tmp_path_factory.mktemp("interrupted") / "home"
    process = program.start(root, "train", *program.SMALL, *ENDLESS, "tracking=mlflow", "checkpoint.every_n_steps=null")
    process.reaches(13)
    while_it_trains = program.run(root, "resume")
    process.send(signal.SIGINT)
    return program.only_run(root), process.end(), while_it_trains


class TestCtrlC:
    def test_ends_with_130_and_no_traceback(self, interrupted: Any) -> None:
        _, ended, _ = interrupted
        assert ended.code == 130
        assert ended.err == ""

    def test_leaves_a_checkpoint_of_the_step_it_came_to(self, program: Any, interrupted: Any) -> None:
        run_dir, ended, *_ = interrupted
        (saved,) = re.findall(r"stopped; (step-\d+\.ckpt) is saved", ended.out)
        assert (run_dir / "checkpoints/last.ckpt").resolve().name == saved
        assert program.result(run_dir)["status"] == "KILLED"

    def test_prints_the_command_to_go_on(self, interrupted: Any) -> None:
        run_dir, ended, *_ = interrupted
        assert ended.out.rstrip().endswith(f"To go on: pipeline resume run={run_dir.name}")

    def test_makes_the_run_killed_in_mlflow(self, program: Any, interrupted: Any) -> None:
        run_dir, *_ = interrupted
        client = mlflow_client(f"sqlite:///{run_dir.parent}/mlflow.db")
        assert client.get_run(program.result(run_dir)["mlflow_run_id"]).info.status == "KILLED"

    def test_a_run_that_still_trains_is_not_resumed_a_second_time(self, interrupted: Any) -> None:
        *_, refused = interrupted
        assert refused.code == 2
        assert "is being trained right now" in refused.err

    @pytest.mark.slow
    def test_the_printed_command_goes_on(self, program: Any, interrupted: Any) -> None:
        run_dir, ended, *_ = interrupted
        command = ended.out.rstrip().rpartition("To go on: pipeline ")[2].split()
        steps = int(re.findall(r"step-(\d+)\.ckpt is saved", ended.out)[0])
        resumed = program.run(run_dir.parent.parent, *command, f"trainer.max_steps={steps + 5}")
        assert resumed.code == 0, resumed.err
        assert f"goes on at  step {steps:,}" in resumed.out
        result = program.result(run_dir)
        assert result["status"] == "FINISHED"
        client = mlflow_client(f"sqlite:///{run_dir.parent}/mlflow.db")
        assert client.get_run(result["mlflow_run_id"]).info.status == "FINISHED"


def test_sigterm_saves_and_asks_to_be_started_again_with_75(program: Any, tmp_path: Path, watched: Any) -> None:
    process = watched(program.start(tmp_path / "home", "train", *program.SMALL, *ENDLESS))
    process.reaches(4)
    process.send(signal.SIGTERM)
    ended = process.end()
    run_dir = program.only_run(tmp_path / "home")
    assert ended.code == 75 and ended.err == ""
    assert (run_dir / "checkpoints/last.ckpt").exists()
    assert program.result(run_dir)["status"] == "KILLED"
    assert f"pipeline resume run={run_dir.name}" in ended.out


def test_without_its_parent_the_training_saves_and_ends_by_itself(program: Any, tmp_path: Path, watched: Any) -> None:
    process = watched(program.start(tmp_path / "home", "train", *program.SMALL, *ENDLESS))
    process.reaches(4)
    trainers = process.trainers()
    process.send(signal.SIGKILL)
    _, alive = psutil.wait_procs(trainers, timeout=PATIENCE_SECONDS)
    assert trainers and alive == []
    run_dir = program.only_run(tmp_path / "home")
    assert program.result(run_dir)["status"] == "KILLED"
    assert (run_dir / "checkpoints/last.ckpt").exists()


def test_a_command_that_is_repeated_at_once_waits_for_the_processes_that_lost_their_parent(
    program: Any, tmp_path: Path, watched: Any
) -> None:
    command = ("train", *program.SMALL, *ENDLESS, "name=again", "auto_resume=true")
    first = watched(program.start(tmp_path / "home", *command))
    first.reaches(4)
    first.trainers()
    first.send(signal.SIGKILL)
    second = watched(program.start(tmp_path / "home", *command))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "goes on at" not in second.out.read_text():
        assert second.popen.poll() is None and time.monotonic() < deadline, second.err.read_text()
        time.sleep(0.1)
    second.trainers()
    second.send(signal.SIGTERM)
    assert second.end().code in (75, 143)
    assert len(program.runs_in(tmp_path / "home")) == 1


@pytest.mark.cold  # there is nothing to import otherwise
def test_ctrl_c_before_the_first_step_leaves_no_run(program: Any, tmp_path: Path, watched: Any) -> None:
    process = watched(program.start(tmp_path / "home", "train", *program.SMALL))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while sum(trainer.cpu_times().user for trainer in process.trainers()) < 0.5:  # then it is among the imports
        assert process.popen.poll() is None and time.monotonic() < deadline, process.err.read_text()
        time.sleep(0.01)
    process.send(signal.SIGINT)
    ended = process.end()
    assert ended.code == 130
    assert program.runs_in(tmp_path / "home") == []
    assert ended.err == ""
