"""One GPU: training, mixed precision, and going on after `kill -9`."""

import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking.journal import metric_history

pytestmark = pytest.mark.gpu
ON_THE_GPU = ("trainer.accelerator=gpu", "trainer.devices=1", "tracking=none")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_it_learns(program: Any, tmp_path: Path, precision: str) -> None:
    ended = program.run(tmp_path / "home", "train", *ON_THE_GPU, f"trainer.precision={precision}")
    assert ended.code == 0, ended.err
    assert f"1 x cuda, {precision}" in ended.out
    assert program.result(program.only_run(tmp_path / "home"))["metrics"]["test/accuracy"] > 0.97


def test_a_killed_run_goes_on_to_the_curve_of_the_undisturbed_one(program: Any, tmp_path: Path, watched: Any) -> None:
    settings = (*ON_THE_GPU, "trainer.max_epochs=40", "trainer.log_every_n_steps=10", "checkpoint.every_n_steps=20")
    whole = program.run(tmp_path / "whole", "train", *settings)
    assert whole.code == 0, whole.err
    process = watched(program.start(tmp_path / "killed", "train", *settings))
    process.reaches(100)
    for trainer in process.trainers():
        trainer.send_signal(signal.SIGKILL)
    assert process.end().code == 137
    again = program.run(tmp_path / "killed", "resume")
    assert again.code == 0 and "goes on at  step" in again.out, again.err
    one, other = (metric_history(program.only_run(tmp_path / name) / "journal.jsonl") for name in ("whole", "killed"))
    assert [step for step, _ in one["train/loss"]] == [step for step, _ in other["train/loss"]]
    # Not to the last bit: a GPU's sums depend on the order in which its threads come.
    assert one["test/accuracy"][-1][1] == pytest.approx(other["test/accuracy"][-1][1], abs=0.01)
