"""Two processes on the CPU: one run, one journal, one verdict; and one end."""

import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking.journal import metric_history

TWO = ("trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_epochs=1", "checkpoint.every_n_steps=null")
BREAKS = """
import os
import signal
import time
import pytorch_lightning as pl

class Breaks(pl.Callback):
    def __init__(self, how: str) -> None:
        self.how = how

    def on_before_optimizer_step(self, trainer, *_):
        if trainer.global_rank == 1 and trainer.global_step >= 6:
            getattr(self, self.how)()

    def raises(self):
        raise RuntimeError("the second process broke down")

    def is_killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def is_stopped(self):
        os.kill(os.getpid(), signal.SIGSTOP)

    def sleeps_for_ever(self):
        time.sleep(1000)

# In one process, at one moment of Lightning's, `after` of them; `seconds` are for one that is only slow.
class Hangs(pl.Callback):
    def __init__(self, at: str, rank: int = 1, after: int = 0, seconds: float = 1000.0) -> None:
        self.rank, self.left, self.seconds = rank, after, seconds
        self.hang() if at == "set-up" else setattr(self, at, self.hang)

    def hang(self, *_):
        if os.environ["RANK"] == str(self.rank):
            self.left -= 1
            if self.left < 0:
                time.sleep(self.seconds)

# From the first checkpoint on, the first process waits in the kernel for a file.
class DeadFileSystem(pl.Callback):
    def on_save_checkpoint(self, *_):
        if os.environ["RANK"] == "0":
            os.mkfifo("dead")
            open("dead", "w")
"""
HANG = {  # where, what else is typed, words of the console
    "set-up": ("{_target_: mine.Hangs, at: set-up}", "setting up"),
    "the first batch of an epoch": (
        "{_target_: mine.Hangs, at: on_train_epoch_start, after: 1}",
        "fetching the first batch of an epoch",
    ),
    "validation": ("{_target_: mine.Hangs, at: on_validation_batch_start, after: 1}", "validating"),
    "validation, in the first process": (
        "{_target_: mine.Hangs, at: on_validation_batch_start, after: 1, rank: 0}",
        "validating",
    ),
    "the test": ("{_target_: mine.Hangs, at: on_test_batch_start}", "testing"),
    "the end of the run": ("{_target_: mine.Hangs, at: on_test_end, rank: 0}", "finishing the run"),
    "a dead file system": ("{_target_: mine.DeadFileSystem}", "saving a checkpoint"),
}


@pytest.fixture(scope="module")
def both(program: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("both") / "home"
    ended = program.run(root, "train", *program.SMALL, *TWO, MASTER_PORT="1")
    assert ended.code == 0, ended.err
    return program.only_run(root), ended


def test_they_leave_one_run_with_the_figures_of_the_whole_test_set(program: Any, both: Any) -> None:
    run_dir, _ = both
    result = program.result(run_dir)
    assert result["status"] == "FINISHED"
    assert len(result["metrics"]) == 5
    assert result["metrics"]["test/accuracy"] * 1000 == pytest.approx(round(result["metrics"]["test/accuracy"] * 1000))
    assert len(list((run_dir / "figures").iterdir())) == 5


def test_they_write_one_journal(both: Any) -> None:
    lines = (both[0] / "journal.jsonl").read_text().splitlines()
    assert sum('"kind":"start"' in line for line in lines) == 1
    assert sum('"kind":"end"' in line for line in lines) == 1
    assert [step for step, _ in metric_history(both[0] / "journal.jsonl")["train/loss"]] == [4, 8, 10]


def test_one_of_them_speaks(both: Any) -> None:
    assert "10 steps, 2 x cpu" in both[1].out
    assert both[1].out.count("test/accuracy") == 1 and both[1].out.count("epoch 1/1") == 1
    assert both[1].err == ""


@pytest.mark.slow
def test_they_see_the_batches_that_one_process_sees(program: Any, both: Any, tmp_path: Path) -> None:
    alone = program.run(tmp_path / "home", "train", *program.SMALL, *TWO, "trainer.devices=1")
    assert alone.code == 0, alone.err
    one, two = (
        metric_history(run / "journal.jsonl")["train/loss"] for run in (program.only_run(tmp_path / "home"), both[0])
    )
    # Not the same digits: a convolution amplifies what float32 rounds (test_any_number_of_processes.py has float64).
    assert [value for _, value in two] == pytest.approx([value for _, value in one], rel=0.02)


def break_down(program: Any, home: Path, watched: Any, how: str) -> Any:
    """How two processes ended of which the second breaks down in its 7th step."""
    home.mkdir()
    (home / "mine.py").write_text(BREAKS)
    breaking = ("allow_packages=[mine]", f"+callbacks.breaks={{_target_: mine.Breaks, how: {how}}}")
    settings = (*TWO, "trainer.max_epochs=100000", "callbacks=none", *breaking)
    process = watched(program.start(home, "train", *program.SMALL, *settings))
    process.reaches(4)
    trainers = process.trainers()
    ended = process.end()
    assert not [each for each in trainers if each.is_running()]
    assert "Traceback" not in ended.err.partition("process 1 of 2")[0], "the first process has nothing to tell"
    return ended


def test_when_one_raises_all_end_and_it_is_named(program: Any, tmp_path: Path, watched: Any) -> None:
    ended = break_down(program, tmp_path / "home", watched, "raises")
    assert ended.code == 1
    assert "process 1 of 2 failed with exit code 1" in ended.err
    assert "the second process broke down" in ended.err


def test_when_one_is_killed_all_end_and_it_is_named(program: Any, tmp_path: Path, watched: Any) -> None:
    ended = break_down(program, tmp_path / "home", watched, "is_killed")
    assert ended.code == 137
    assert "process 1 of 2 was killed by somebody (SIGKILL)" in ended.err
    assert "to go on from what was saved: pipeline resume run=" in ended.err


def test_when_one_hangs_all_end_and_it_is_told_where_it_stood(program: Any, tmp_path: Path, watched: Any) -> None:
    ended = break_down(program, tmp_path / "home", watched, "sleeps_for_ever")
    assert ended.code == 1
    assert "process 1 of 2 has not moved for 1" in ended.err  # 10 s, or a second or two more
    assert "mine.py" in ended.err and "sleeps_for_ever" in ended.err


@pytest.mark.slow
@pytest.mark.parametrize("where", HANG)
def test_wherever_one_hangs_it_is_named_and_all_tell_where_they_stood(
    program: Any, tmp_path: Path, watched: Any, where: str
) -> None:
    hangs, doing = HANG[where]
    process = watched(start_hanging(program, tmp_path / "home", hangs))
    ended = process.end(120)
    culprit = 0 if "rank: 0" in hangs or "Dead" in hangs else 1
    assert ended.code == 1, ended.err
    assert f"process {culprit} of 2 has not moved for" in ended.err
    assert doing in ended.err
    assert ended.err.count("process 0:") == ended.err.count("process 1:") == 1
    assert "mine.py" in ended.err
    if where == "set-up":  # nothing had begun, and nothing is left
        assert "pipeline resume" not in ended.err and program.runs_in(tmp_path / "home") == []
        return
    assert "pipeline resume run=" in ended.err
    log = (program.only_run(tmp_path / "home") / "run.log").read_text()
    assert f"process {culprit} of 2 has not moved for" in log and log.count('mine.py"') >= 1


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["on_validation_batch_start", "on_save_checkpoint", "set-up"])
def test_one_that_is_slow_by_nature_is_waited_for(program: Any, tmp_path: Path, watched: Any, moment: str) -> None:
    """Five times hang_seconds: a checkpoint, set-up, each batch of validation."""
    slow = f"{{_target_: mine.Hangs, at: {moment}, seconds: 5}}"
    process = watched(start_hanging(program, tmp_path / "home", slow))
    ended = process.end()
    assert ended.code == 0, ended.err


def start_hanging(program: Any, home: Path, callback: str) -> Any:
    home.mkdir()
    (home / "mine.py").write_text(BREAKS)
    settings = (*TWO, "trainer.max_epochs=2", "allow_packages=[mine]", f"+callbacks.hangs={callback}")
    return program.start(home, "train", *program.SMALL, *settings, "launch.hang_seconds=1")


@pytest.mark.slow
def test_when_one_is_stopped_all_end_and_it_is_named(program: Any, tmp_path: Path, watched: Any) -> None:
    ended = break_down(program, tmp_path / "home", watched, "is_stopped")
    assert ended.code == 1
    assert "process 1 of 2 was stopped by a signal" in ended.err


def test_a_signal_to_one_of_them_stops_both_at_the_same_step(program: Any, tmp_path: Path, watched: Any) -> None:
    process = watched(
        program.start(tmp_path / "home", "train", *program.SMALL, *TWO, "trainer.max_epochs=100000", "callbacks=none")
    )
    process.reaches(30)
    process.trainers()[1].send_signal(signal.SIGTERM)
    ended = process.end()
    assert ended.code == 75 and ended.err == ""
    assert "stopped; step-" in ended.out
