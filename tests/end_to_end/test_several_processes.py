"""Two processes on the CPU: one run, one journal, one verdict; and one end."""

import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking.journal import history

SECONDS_TO_END = 15.0
TWO = ("trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_epochs=1", "checkpoint.every_n_steps=null")
BREAKS = """
import pytorch_lightning as pl

class Breaks(pl.Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_rank == 1 and trainer.global_step >= 4:
            raise RuntimeError("the second process broke down")
"""
BREAKING = ("allow_packages=[mine]", "+callbacks.breaks={_target_: mine.Breaks}")


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
    assert [step for step, _ in history(both[0] / "journal.jsonl")["train/loss"]] == [4, 8, 10]


def test_one_of_them_speaks(both: Any) -> None:
    assert "10 steps, 2 x cpu" in both[1].out
    assert both[1].out.count("test/accuracy") == 1 and both[1].out.count("epoch 1/1") == 1
    assert both[1].err == ""


@pytest.mark.slow
def test_they_see_the_batches_that_one_process_sees(program: Any, both: Any, tmp_path: Path) -> None:
    alone = program.run(tmp_path / "home", "train", *program.SMALL, *TWO, "trainer.devices=1")
    assert alone.code == 0, alone.err
    one, two = (history(run / "journal.jsonl")["train/loss"] for run in (program.only_run(tmp_path / "home"), both[0]))
    # Not the same digits: each process has batch norm's statistics, and dropout, of its own half.
    assert [value for _, value in two] == pytest.approx([value for _, value in one], rel=0.2)


def test_when_one_raises_all_end_and_it_is_named(program: Any, tmp_path: Path, watched: Any) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine.py").write_text(BREAKS)
    settings = (*TWO, "trainer.max_epochs=100000", "callbacks=none", *BREAKING)
    process = watched(program.start(home, "train", *program.SMALL, *settings))
    process.reaches(4)
    trainers, broke_at = process.trainers(), time.monotonic()
    ended = process.end()
    assert time.monotonic() - broke_at < SECONDS_TO_END
    assert ended.code == 1
    assert "process 1 of 2 failed with exit code 1" in ended.err
    assert "the second process broke down" in ended.err
    assert not [each for each in trainers if each.is_running()]
