"""Memory that does not suffice: refused by the allocator, or taken back by the kernel."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking.journal import metric_history

NET = """
import os
import torch
from torch import nn

class Hungry(nn.Module):
    \"\"\"More than 20 samples at once are too many, for the process that is named.\"\"\"

    def __init__(self, *, rank: int):
        super().__init__()
        self.rank = rank
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.Tanh(), nn.Linear(16, 10))

    def forward(self, images):
        if self.training and len(images) > 20 and self.rank == int(os.environ["RANK"]):
            torch.empty(2**50)
        return self.layers(images)
"""
HUNGRY = (
    "allow_packages=[mine]", "model._target_=mine.Hungry", "~model.widths", "~model.depth", "~model.activation",
    "~model.dropout", "+model.rank=0",
)  # fmt: skip
TWO = ("trainer.devices=2", "trainer.accelerator=cpu")
LIMIT_BYTES = 1_500_000_000
GREEDY = """
import pytorch_lightning as pl

class Greedy(pl.Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        self.all = b"x" * 3_000_000_000
"""


def home(tmp_path: Path) -> Path:
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "mine.py").write_text(NET)
    return tmp_path


def test_the_run_says_what_is_missing_and_goes_on_with_smaller_batches(program: Any, tmp_path: Path) -> None:
    small = [word for word in program.SMALL if not word.startswith("model.")]
    failed = program.run(home(tmp_path), "train", *small, *HUNGRY)
    assert failed.code == 1 and "Traceback" not in failed.err
    assert "failed: out of memory" in failed.err and "batch.on_out_of_memory=halve" in failed.err
    again = program.run(tmp_path, "resume", "batch.on_out_of_memory=halve")
    assert again.code == 0, again.err
    assert "warning: out of memory: micro-batches of 16 samples from now on" in again.out
    assert program.result(program.only_run(tmp_path))["status"] == "FINISHED"


@pytest.mark.slow
def test_when_one_of_two_runs_out_of_memory_both_halve_and_the_losses_stay(program: Any, tmp_path: Path) -> None:
    small = [word for word in program.SMALL if not word.startswith("model.")]
    settings = (*small, *HUNGRY, *TWO, "batch.on_out_of_memory=halve")
    whole = program.run(home(tmp_path / "whole"), "train", *settings, "model.rank=7")
    halved = program.run(home(tmp_path / "halved"), "train", *settings, "model.rank=1")
    assert (whole.code, halved.code) == (0, 0), whole.err + halved.err
    one, other = (metric_history(program.only_run(tmp_path / name) / "journal.jsonl") for name in ("whole", "halved"))
    for name in ("train/loss", "val/loss"):
        assert [step for step, _ in one[name]] == [step for step, _ in other[name]]
        assert [value for _, value in other[name]] == pytest.approx([value for _, value in one[name]], rel=1e-4)


@pytest.fixture
def limited() -> Iterator[Path]:
    """A control group of little memory, for whoever enters it."""
    group = Path(f"/sys/fs/cgroup/memory/pipeline-test-{os.getpid()}")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(LIMIT_BYTES))
    except OSError:
        pytest.skip("needs leave to limit memory (control groups, version 1)")
    yield group
    group.rmdir()


@pytest.mark.slow
def test_a_process_that_the_kernel_ended_for_want_of_memory_is_told(
    program: Any, tmp_path: Path, limited: Path
) -> None:
    (tmp_path / "mine.py").write_text(GREEDY)
    enter = f"echo $$ > '{limited}/cgroup.procs'; exec {shlex.quote(program.PATH)} train"
    own = ("allow_packages=[mine]", "+callbacks.greedy={_target_: mine.Greedy}", "checkpoint.every_n_steps=3")
    words = " ".join(f"'{word}'" for word in (*program.SMALL, *own))
    ended = program.shell(tmp_path, f"{enter} {words}")
    assert ended.code == 137
    assert "process 0 of 1 was killed by the kernel, because memory ran out" in ended.err
    assert "to go on from what was saved: pipeline resume run=" in ended.err
