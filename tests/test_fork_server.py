"""A program of the fork server is, to who started it and to itself, the process that a cold start makes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests import fork_server

TELLS = """# warm
import json, os, random, signal, subprocess, sys, time
told = json.loads(sys.stdin.readline())
child = None
if told["child"]:
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child = subprocess.Popen([sys.executable, "-c", told["child"]], **pipes)
    answer = json.loads(child.communicate(json.dumps({"child": "", "sleeps": False}))[0])
print(json.dumps({
    "arguments": sys.argv, "folder": os.getcwd(), "variable": os.environ.get("VARIABLE"), "random": random.random(),
    "pid": os.getpid(), "parent": os.getppid(), "group": os.getpgrp(), "session": os.getsid(0),
    "ignores": signal.getsignal(signal.SIGTERM) is signal.SIG_IGN, "is_warm": "pytorch_lightning" in sys.modules,
    "files": sorted(os.listdir("/proc/self/fd")), "path": sys.path[:1], "child": answer if child else None,
    "ended": child and child.returncode,
}), flush=True)
print("to the error stream", file=sys.stderr)
if told["sleeps"]:
    time.sleep(60)
sys.exit(7)
"""


@pytest.fixture
def server(warm_starts: fork_server.Server | None) -> fork_server.Server:
    if warm_starts is None:
        pytest.skip("there is no fork server with --cold, and none without Linux")
    return warm_starts


@pytest.fixture(params=["cold", "warm"])
def started(request: pytest.FixtureRequest, server: fork_server.Server, tmp_path: Path) -> Iterator[Any]:
    """Starts the program, in a folder of its own; every test asks the same of a cold start."""
    processes: list[subprocess.Popen[str]] = []

    def start(*words: str, child: str = "", sleeps: bool = False, **given: Any) -> subprocess.Popen[str]:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [sys.executable, "-c", TELLS, *words]
        process = subprocess.Popen(command, cwd=tmp_path, text=True, **pipes, **given)  # type: ignore[call-overload]
        process.stdin.write(json.dumps({"child": child, "sleeps": sleeps}) + "\n")
        process.stdin.flush()
        processes.append(process)
        return process

    is_warm = request.param == "warm"
    with fork_server.programs_come(fork_server.popen_of(server) if is_warm else fork_server.FROM_NOTHING):
        yield start
    for process in processes:
        process.kill()
        process.communicate()


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(process.stdout.readline())  # type: ignore[union-attr]
    return found


def test_it_is_a_child_with_its_own_arguments_folder_variables_streams_and_exit_code(
    started: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    process = started("a b", "--flag", env=os.environ | {"VARIABLE": "x"})
    facts = told(process)
    assert facts["is_warm"] == ("warm" in request.node.name)
    assert (facts["pid"], facts["parent"]) == (process.pid, os.getpid())
    assert facts["arguments"] == ["-c", "a b", "--flag"] and facts["path"] == [""]
    assert facts["folder"] == str(tmp_path) and facts["variable"] == "x"
    assert facts["group"] == os.getpgrp() and facts["session"] == os.getsid(0)
    out, said = process.communicate()
    assert (out, said, process.returncode) == ("", "to the error stream\n", 7)


def test_each_draws_its_own_random_numbers(started: Any) -> None:
    assert told(started())["random"] != told(started())["random"]


def test_it_leads_the_group_or_session_that_was_asked_for(started: Any) -> None:
    facts = told(started(process_group=0))
    assert facts["group"] == facts["pid"] != facts["session"]
    facts = told(started(start_new_session=True))
    assert facts["session"] == facts["pid"]


def test_a_signal_ends_it_as_the_waiting_parent_sees(started: Any) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        process = started(sleeps=True)
        told(process)
        process.send_signal(number)
        assert process.wait(30) == -number


def test_a_file_that_is_handed_down_keeps_its_number(started: Any, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        process = started(pass_fds=[file.fileno()])
        assert str(file.fileno()) in told(process)["files"]


def test_its_command_line_is_what_was_typed(started: Any) -> None:
    process = started("a b", sleeps=True)
    told(process)
    assert psutil.Process(process.pid).cmdline() == [sys.executable, "-c", TELLS, "a b"]


def test_what_it_starts_is_its_own_child(started: Any, tmp_path: Path) -> None:
    process = started(child=TELLS)
    facts = told(process)
    assert facts["child"]["parent"] == process.pid and facts["ended"] == 7
    assert facts["child"]["is_warm"] == facts["is_warm"] and facts["child"]["folder"] == str(tmp_path)


def test_nothing_of_it_outlives_a_kill(started: Any) -> None:
    process = started(sleeps=True)
    told(process)
    below = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    psutil.wait_procs(below, timeout=10)
    assert [each for each in below if each.is_running() and each.status() != psutil.STATUS_ZOMBIE] == []


def test_a_command_that_reads_other_code_starts_from_nothing(server: fork_server.Server, tmp_path: Path) -> None:
    version = [sys.executable, "-m", "pipeline", "version"]
    with fork_server.programs_come(fork_server.popen_of(server)):
        other_path = subprocess.run(
            version, env=os.environ | {"PYTHONPATH": "elsewhere"}, capture_output=True, text=True
        )
        (tmp_path / "optuna.py").write_text("raise SystemExit('of the folder')")
        shadowed = subprocess.run(
            [sys.executable, "-c", "# warm\nimport optuna"], cwd=tmp_path, capture_output=True, text=True
        )
    assert other_path.returncode == 0
    assert shadowed.stderr == "of the folder\n" and shadowed.returncode == 1
