"""Real processes on this machine: they begin together, hear every signal, and end together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.launch.launcher import Resources
from pipeline.launch.local import Local

# A parent that launches `argv[3]` (Python code) in argv[2] processes, as `pipeline train` does.
PARENT = """
import sys
from pathlib import Path
from pipeline.launch.launcher import Resources
from pipeline.launch.local import Local
folder, processes, code = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
sys.exit(Local(hang_seconds=None).run([sys.executable, "-c", code], Resources(1, processes), folder))
"""
READY = "import os, pathlib; pathlib.Path('ready' + os.environ['RANK']).write_text(str(os.getpid()));"
SLEEP = f"{READY} import time; time.sleep(60)"
HEEDS_SIGNALS = f"""
import signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: sys.exit(number))
{READY}
time.sleep(60)
"""


def run(folder: Path, code: str, processes: int = 1) -> int:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        return Local(hang_seconds=None).run([sys.executable, "-c", code], Resources(1, processes), folder)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@pytest.fixture
def start(empty_folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a parent and waits until all its children are there."""
    started: list[subprocess.Popen[str]] = []

    def begin(code: str, processes: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PARENT, str(empty_folder), str(processes), code]
        parent = subprocess.Popen(command, cwd=empty_folder, stderr=subprocess.PIPE, text=True)
        started.append(parent)
        deadline = time.monotonic() + 30
        while len(list(empty_folder.glob("ready*"))) < processes:
            assert time.monotonic() < deadline and parent.poll() is None
            time.sleep(0.02)
        time.sleep(0.1)  # the last one's file is there a moment before it is written
        return parent

    yield begin
    for parent in started:
        parent.kill()
    for path in empty_folder.glob("ready*"):
        if psutil.pid_exists(int(path.read_text())):
            os.kill(int(path.read_text()), signal.SIGKILL)
    for parent in started:
        parent.communicate()


def alive(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("ready*") if psutil.pid_exists(int(path.read_text()))]


def test_every_process_gets_its_rank(empty_folder: Path) -> None:
    tell = (
        "import os, pathlib; from pipeline.system.process import process_rank; here = process_rank();"
        "pathlib.Path(f'place{here.rank}').write_text(f\"{here} {os.environ['MASTER_PORT']}\")"
    )
    assert run(empty_folder, tell, processes=3) == 0
    told = [(empty_folder / f"place{rank}").read_text() for rank in range(3)]
    assert told[1].startswith("Rank(rank=1, world_size=3, local_rank=1, local_world_size=3)")
    assert len({each.rsplit(maxsplit=1)[1] for each in told}) == 1  # one port for all


def test_the_processes_together_use_no_more_threads_than_there_are_cores(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    tell = "import os, pathlib; pathlib.Path('threads' + os.environ['RANK']).write_text(os.environ['OMP_NUM_THREADS'])"
    assert run(empty_folder, tell, processes=2) == 0
    threads = [int((empty_folder / f"threads{rank}").read_text()) for rank in range(2)]
    assert sum(threads) <= max(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1, 2)


@pytest.mark.parametrize("code, expected", [("", 0), ("raise SystemExit(2)", 2), ("raise SystemExit(75)", 75)])
def test_the_exit_code_is_returned(empty_folder: Path, code: str, expected: int) -> None:
    assert run(empty_folder, code) == expected


def test_a_process_ended_by_a_signal_has_the_exit_code_of_a_shell(empty_folder: Path) -> None:
    assert run(empty_folder, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)") == 137


def test_processes_other_than_the_first_write_to_their_logs(
    empty_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(empty_folder, "import os; print('I am', os.environ['RANK'])", processes=2) == 0
    assert capfd.readouterr().out == "I am 0\n"
    assert (empty_folder / "rank1.log").read_text() == "I am 1\n"


def test_a_failed_process_is_named_with_its_last_lines(empty_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fails = "import os\nif os.environ['RANK'] == '1': raise RuntimeError('no more memory')"
    assert run(empty_folder, fails, processes=2) == 1
    said = capfd.readouterr().err
    assert "process 1 of 2 failed with exit code 1" in said and "RuntimeError: no more memory" in said


def test_when_one_process_dies_the_others_do_not_wait_forever(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.launch.local.GRACE_SECONDS", 0.5)
    waits = "time.sleep(60); open('waited', 'w')"
    code = f"{READY}\nimport os, time\nif os.environ['RANK'] == '0': raise SystemExit(3)\n{waits}"
    assert run(empty_folder, code, processes=2) == 3
    assert alive(empty_folder) == [] and not (empty_folder / "waited").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_every_signal_reaches_every_process_once(
    start: Callable[..., subprocess.Popen[str]], empty_folder: Path, number: signal.Signals
) -> None:
    parent = start(HEEDS_SIGNALS, 2)
    parent.send_signal(number)
    assert parent.wait(20) == number  # each process ends with the number of what it heard
    assert alive(empty_folder) == []


def test_ctrl_c_in_the_terminal_reaches_the_children_through_the_parent_alone(
    start: Callable[..., subprocess.Popen[str]], empty_folder: Path
) -> None:
    parent = start(SLEEP, 2)
    groups = {os.getpgid(int(path.read_text())) for path in empty_folder.glob("ready*")}
    assert os.getpgid(parent.pid) not in groups and len(groups) == 2
