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


def test_a_process_ends_without_the_interpreter_being_taken_apart() -> None:
    program = """
import atexit
from pipeline.process import end

class Held:
    def __del__(self) -> None:
        print("taken apart")

held = Held()
atexit.register(print, "at exit")
print("done", end=" ")
end(3)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "done at exit\n", "")


def test_a_process_ends_whose_output_is_closed() -> None:
    program = "from pipeline.process import end; end(3)"
    ended = subprocess.run(["sh", "-c", f"exec {sys.executable} -c '{program}' >&- 2>&-"], check=False)
    assert ended.returncode == 3
