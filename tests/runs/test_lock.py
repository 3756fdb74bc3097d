"""One lock for whoever writes in a run directory, held by real processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.runs import lock

PATIENCE_SECONDS = 60.0
# Holds the lock until its input ends, and starts a child that inherits it and lives for as long as a file is there.
HOLDER = """
import subprocess, sys
from pathlib import Path
from pipeline.runs import lock
from pipeline.system.process import INHERITED_FILES
folder, work = Path(sys.argv[1]), sys.argv[2]
CHILD = "import pathlib, sys, time\\nwhile pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)"
with lock.run_lock(folder, work):
    if work == lock.TRAINED:
        alive = folder / "alive"
        alive.touch()
        subprocess.Popen([sys.executable, "-c", CHILD, str(alive)], pass_fds=tuple(INHERITED_FILES))
    print("held", flush=True)
    sys.stdin.read()
"""
Hold = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    """A process that holds the lock of `tmp_path`, for this work."""
    started = []

    def start(work: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDER, str(tmp_path), work]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(holder)
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        return holder

    yield start
    (tmp_path / "alive").unlink(missing_ok=True)
    for holder in started:
        holder.kill()
        holder.communicate()


def can_be_held(folder: Path) -> bool:
    try:
        with lock.run_lock(folder, "evaluated"):
            return True
    except lock.RunLockedError:
        return False


@pytest.mark.parametrize(
    "work, remedy", [("trained", "pipeline cancel {folder.name}"), ("evaluated", "kill {holder.pid}")]
)
def test_a_second_process_is_told_who_holds_the_lock_and_what_to_type(
    hold: Hold, tmp_path: Path, work: str, remedy: str
) -> None:
    holder = hold(work)
    with pytest.raises(lock.RunLockedError) as refused, lock.run_lock(tmp_path, "trained"):
        pass
    said = str(refused.value)
    assert f"{tmp_path.name} is being {work} right now, by process {holder.pid} on " in said
    assert said.endswith(remedy.format(folder=tmp_path, holder=holder))


def test_the_lock_ends_with_its_holder_whatever_is_left_in_the_file(hold: Hold, tmp_path: Path) -> None:
    holder = hold("evaluated")
    holder.kill()
    holder.wait()
    assert json.loads((tmp_path / lock.LOCK_FILE).read_text())["pid"] == holder.pid
    assert can_be_held(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0" * 200, b"{", b"[1]", b'{"token": 1}', b'{"pid": -1}'])
def test_no_content_of_the_lock_file_keeps_anybody_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / lock.LOCK_FILE).write_bytes(content)
    assert can_be_held(tmp_path)


def test_the_lock_lasts_as_long_as_a_process_that_inherited_it(
    hold: Hold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "ORPHANS_TIMEOUT_SECONDS", 0.3)
    holder = hold(lock.TRAINED)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with pytest.raises(lock.RunLockedError, match="by child processes of process"), lock.run_lock(tmp_path, "trained"):
        pass
    (tmp_path / "alive").unlink()
    monkeypatch.setattr(lock, "ORPHANS_TIMEOUT_SECONDS", PATIENCE_SECONDS)
    assert can_be_held(tmp_path)


def test_the_children_of_a_killed_holder_are_waited_for(hold: Hold, tmp_path: Path) -> None:
    holder = hold(lock.TRAINED)
    holder.kill()
    holder.wait()
    ends = subprocess.Popen(
        [sys.executable, "-c", f"import time, os; time.sleep(1); os.unlink({str(tmp_path / 'alive')!r})"]
    )
    assert can_be_held(tmp_path)
    assert ends.wait() == 0


def test_a_cluster_job_waits_for_a_live_holder(hold: Hold, tmp_path: Path) -> None:
    holder = hold("evaluated")
    waiting = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from pipeline.runs import lock\n"
            "with lock.run_lock(Path(sys.argv[1]), 'trained', is_cluster_job=True): print('mine')",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stderr is not None and "is being evaluated right now" in waiting.stderr.readline()
    holder.communicate("")
    out, _ = waiting.communicate(timeout=PATIENCE_SECONDS)
    assert out == "mine\n"


def test_child_processes_of_a_holder_may_write_too(hold: Hold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold("evaluated")
    monkeypatch.setenv(lock.TOKEN_VARIABLE, json.loads((tmp_path / lock.LOCK_FILE).read_text())["token"])
    assert can_be_held(tmp_path)


def test_releasing_the_lock_restores_the_environment(tmp_path: Path) -> None:
    before = dict(os.environ)
    with lock.run_lock(tmp_path, "evaluated"):
        assert os.environ[lock.TOKEN_VARIABLE]
        with lock.run_lock(tmp_path, "evaluated"):
            pass
    assert dict(os.environ) == before
    assert can_be_held(tmp_path)


@pytest.mark.parametrize("left", ["directory", "link", "nothing"])
def test_work_goes_on_without_a_lock_where_none_is_possible(tmp_path: Path, left: str) -> None:
    folder = tmp_path / "run"
    if left != "nothing":
        folder.mkdir()
    if left == "directory":
        (folder / lock.LOCK_FILE).mkdir()
    if left == "link":
        (folder / lock.LOCK_FILE).symlink_to(tmp_path / "elsewhere")
    assert can_be_held(folder)
    assert not (tmp_path / "elsewhere").exists()
