"""A real torchrun with two processes: it starts again what was killed, and its ranks are taken as they are."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.lifecycle import chaos
from pipeline.lifecycle.run import Run

pytestmark = pytest.mark.slow
LONG = ("trainer.accelerator=cpu", "trainer.max_epochs=40", "callbacks=none")


def workers(launched: Any) -> list[psutil.Process]:
    below = psutil.Process(launched.popen.pid).children(recursive=True)
    return [each for each in below if "pipeline.lifecycle.rank" in each.cmdline()]


def test_a_killed_process_starts_again_by_itself_and_ends_with_the_same_weights(
    program: Any, tmp_path: Path, watched: Any
) -> None:
    peace = program.run(tmp_path / "peace", "train", *program.SMALL, *LONG, "trainer.devices=2")
    assert peace.code == 0, peace.err
    torchrun = ("launch=torchrun", "launch.processes_per_node=2")
    process = watched(program.start(tmp_path / "killed", "train", *program.SMALL, *LONG, *torchrun))
    process.reaches(20)
    victim = workers(process)[-1]
    victim.send_signal(signal.SIGKILL)
    killed_at = time.monotonic()
    ended = process.end()
    assert ended.code == 0, ended.err
    assert "goes on at  step" in ended.out
    assert time.monotonic() - killed_at < 120
    one, other = (Run(program.only_run(tmp_path / name)) for name in ("peace", "killed"))
    assert chaos.compare(one, other) == []


def test_the_ranks_of_a_torchrun_of_the_users_own_are_one_run(program: Any, tmp_path: Path) -> None:
    own = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "pipeline"]
    words = ["train", *program.SMALL, "trainer.accelerator=cpu"]
    ended = subprocess.run([*own, *words], cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False)
    assert ended.returncode == 0, ended.stderr
    assert program.result(program.only_run(tmp_path))["status"] == "FINISHED"
    assert "2 x cpu" in ended.stdout and ended.stdout.count("test/accuracy") == 1
