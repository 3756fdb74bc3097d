"""Processes that end with the one that started them."""

import os
import subprocess
import sys

import pytest

from pipeline.process import PARENT

FOLLOWER = "from pipeline.process import follow_parent; follow_parent(poll_seconds=0.05); import time; time.sleep(60)"


def test_a_process_ends_whose_parent_died_before_it_could_look() -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    follower = subprocess.run([sys.executable, "-c", FOLLOWER], env={**os.environ, PARENT: str(dead.pid)}, timeout=30)
    assert follower.returncode == -15


def test_a_process_lives_as_long_as_its_parent() -> None:
    follower = subprocess.Popen([sys.executable, "-c", FOLLOWER], env={**os.environ, PARENT: str(os.getpid())})
    with pytest.raises(subprocess.TimeoutExpired):
        follower.wait(1.5)
    assert follower.poll() is None
    follower.kill()
    follower.wait()
