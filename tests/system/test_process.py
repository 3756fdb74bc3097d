"""Processes that end with the one that started them."""

import os
import subprocess
import sys

import pytest

from pipeline.errors import ConfigError
from pipeline.system.process import (
    PARENT_VARIABLE,
    SINGLE_PROCESS,
    Rank,
    drop_empty_launcher_variables,
    process_rank,
    rank_from_environment,
)

FOLLOWER = (
    "import time; from pipeline.system.process import exit_with_parent; exit_with_parent(poll_seconds=0.05); "
    "time.sleep(60)"
)


def test_a_process_ends_whose_parent_died_before_it_could_look() -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    follower = subprocess.run(
        [sys.executable, "-c", FOLLOWER], env={**os.environ, PARENT_VARIABLE: str(dead.pid)}, timeout=30
    )
    assert follower.returncode == -15


def test_a_process_lives_as_long_as_its_parent() -> None:
    follower = subprocess.Popen([sys.executable, "-c", FOLLOWER], env={**os.environ, PARENT_VARIABLE: str(os.getpid())})
    with pytest.raises(subprocess.TimeoutExpired):
        follower.wait(1.5)
    assert follower.poll() is None
    follower.kill()
    follower.wait()


def test_a_process_ends_without_the_interpreter_being_taken_apart() -> None:
    program = """
import atexit
from pipeline.system.process import exit_without_teardown

class Held:
    def __del__(self) -> None:
        print("taken apart")

held = Held()
atexit.register(print, "at exit")
print("done", end=" ")
exit_without_teardown(3)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "done at exit\n", "")


def test_a_process_ends_whose_output_is_closed() -> None:
    program = "from pipeline.system.process import exit_without_teardown; exit_without_teardown(3)"
    closed = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", sys.executable, "-c", program]
    ended = subprocess.run(closed, check=False)
    assert ended.returncode == 3


HERE = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
TOLD = [  # what is in the environment, and what it means: a place, nothing, or a mistake with these words
    ({}, None),
    ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", **HERE}, Rank(1, 2, 1, 2)),
    ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", **HERE}, Rank(3, 4, 1, 2)),
    ({"RANK": "0", "WORLD_SIZE": "1"}, None),
    ({"WORLD_SIZE": "1"}, None),
    ({"RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "none"}, SINGLE_PROCESS),
    ({"RANK": "0"}, None),
    ({"RANK": "x"}, None),
    ({"WORLD_SIZE": "2"}, None),
    ({"LOCAL_RANK": "1"}, None),
    ({"RANK": "x", "WORLD_SIZE": "2", **HERE}, "RANK=x"),
    ({"RANK": "2", "WORLD_SIZE": "2", **HERE}, "0 to 1"),
    ({"RANK": "-1", "WORLD_SIZE": "2", **HERE}, "RANK=-1"),
    ({"RANK": "0", "WORLD_SIZE": "", **HERE}, None),
    ({"RANK": "", "WORLD_SIZE": ""}, None),
    ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "", **HERE}, Rank(0, 2, 0, 2)),
    ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "node1", "MASTER_PORT": ""}, "not MASTER_PORT"),
    ({"SLURM_STEP_NUM_TASKS": ""}, None),
    ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "", "SLURM_LOCALID": ""}, Rank(0, 2, 0, 2)),
    ({"RANK": "", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}, Rank(1, 2, 1, 2)),
    ({"RANK": "0", "WORLD_SIZE": "0"}, "1 or more"),
    ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "two", **HERE}, "LOCAL_RANK=two"),
    ({"RANK": "0", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "2", **HERE}, "do not divide"),
    ({"RANK": "0", "WORLD_SIZE": "2"}, "not MASTER_ADDR and MASTER_PORT"),
    ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "node1", "MASTER_PORT": "99999"}, "1 to 65535"),
    ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}, Rank(1, 2, 1, 2)),
    ({"SLURM_STEP_NUM_TASKS": "two"}, "SLURM_STEP_NUM_TASKS=two"),
    ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "2"}, "unset SLURM_STEP_NUM_TASKS SLURM_PROCID SLURM_LOCALID"),
]


@pytest.mark.parametrize("variables, meaning", TOLD)
def test_what_an_earlier_launch_left_in_the_shell_is_harmless_or_answered(
    variables: dict[str, str], meaning: Rank | str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in os.environ:
        if name.startswith(("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "SLURM_", "TORCHELASTIC_")):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    drop_empty_launcher_variables()
    if isinstance(meaning, str):
        with pytest.raises(ConfigError) as refused:
            rank_from_environment()
        assert meaning in str(refused.value) and "\n  unset " in str(refused.value)
    else:
        assert rank_from_environment() == meaning and process_rank() == (meaning or SINGLE_PROCESS)
