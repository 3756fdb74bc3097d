"""The program as its users start it: a real process in a directory of its own, and one finished run to look at."""

import json
import os
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

PATIENCE_SECONDS = 180.0
AT_ONCE = 2  # what these processes do most is import torch, on one core each


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    code: int
    out: str
    err: str
    seconds: float


def command_line(process: psutil.Process) -> list[str]:
    """Nothing for one that ends just now."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


class Process:
    """A command under way; its output goes to files, so that it never waits for a reader."""

    def __init__(self, command: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        log = f"{folder}-{time.monotonic_ns()}"
        self.out, self.err = Path(f"{log}.out"), Path(f"{log}.err")
        self.started_at = time.monotonic()
        self.seen: list[psutil.Process] = []
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.popen = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | {"COLUMNS": "200"} | environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0,
            )

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def trainers(self) -> list[psutil.Process]:
        """The processes that train, in the order of their ranks."""
        below = psutil.Process(self.popen.pid).children()
        self.seen = [each for each in below if "pipeline.lifecycle.training_process" in command_line(each)]
        return self.seen

    def journal(self) -> list[dict[str, Any]]:
        paths = list(self.folder.glob("runs/2*/journal.jsonl"))
        lines = paths[0].read_text().splitlines() if paths else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def reaches(self, step: int) -> None:
        """Waits until a metric of this optimiser step or a later one is in the journal."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not any(record.get("step", -1) >= step for record in self.journal()):
            assert self.popen.poll() is None, self.err.read_text()
            assert time.monotonic() < deadline, self.out.read_text()
            time.sleep(0.02)

    def end(self, seconds: float = PATIENCE_SECONDS) -> Ended:
        code = self.popen.wait(seconds)
        return Ended(code, self.out.read_text(), self.err.read_text(), time.monotonic() - self.started_at)


class Program:
    """`pipeline <arguments>` in a folder.

    SMALL is a small network on part of the embedded digits, 10 steps an epoch and a checkpoint every 3; without
    MLflow, unless MLflow is what a test is about.
    """

    PATH = str(Path(sysconfig.get_path("scripts")) / "pipeline")
    SMALL = (
        "model.widths=[4,8]",
        "data.train_fraction=0.37",
        "trainer.max_epochs=3",
        "trainer.log_every_n_steps=4",
        "checkpoint.every_n_steps=3",
        "tracking=none",
    )

    def start(self, folder: Path, *arguments: str, **environment: str) -> Process:
        folder.mkdir(parents=True, exist_ok=True)
        return Process([self.PATH, *arguments], folder, environment)

    def run(self, folder: Path, *arguments: str, **environment: str) -> Ended:
        return self.start(folder, *arguments, **environment).end()

    def shell(self, folder: Path, script: str) -> Ended:
        """A script in place of the program, which it may start."""
        return Process(["sh", "-c", script], folder, {}).end()

    def side_by_side(self, jobs: dict[str, Callable[[], Ended]]) -> dict[str, Ended]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            futures = {name: pool.submit(job) for name, job in jobs.items()}
            return {name: future.result() for name, future in futures.items()}

    def runs_in(self, folder: Path) -> list[Path]:
        """The run directories, whatever state they are in."""
        return [path for path in (folder / "runs").glob("*") if path.is_dir() and path.name[:1].isdigit()]

    def only_run(self, folder: Path) -> Path:
        (run_dir,) = self.runs_in(folder)
        return run_dir

    def result(self, run_dir: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((run_dir / "result.json").read_text())
        return found


@dataclass(frozen=True)
class Finished:
    """A run that went through without a disturbance."""

    folder: Path
    arguments: tuple[str, ...]
    ended: Ended
    result: dict[str, Any]

    def copied_to(self, root: Path) -> Path:
        """As if it had been trained in `root`: for whoever changes it."""
        runs = root / "runs"
        runs.mkdir(parents=True)
        shutil.copytree(self.folder, runs / self.folder.name, symlinks=True)
        (runs / "latest").symlink_to(self.folder.name)
        return runs / self.folder.name


@pytest.fixture(scope="session")
def program() -> Program:
    return Program()


@pytest.fixture(scope="session")
def finished(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Trained once, for all tests that only look at it."""
    root = tmp_path_factory.mktemp("finished") / "home"
    arguments = ("train", *program.SMALL)
    ended = program.run(root, *arguments)
    assert ended.code == 0, ended.err
    folder = program.only_run(root)
    return Finished(folder, arguments, ended, program.result(folder))


@pytest.fixture
def watched() -> Iterator[Callable[[Process], Process]]:
    """What is handed to it does not outlive the test, however that ends."""
    started: list[Process] = []

    def watch(process: Process) -> Process:
        started.append(process)
        return process

    yield watch
    for each in started:
        for trainer in each.seen:
            if trainer.is_running():
                trainer.kill()
        if each.popen.poll() is None:
            each.popen.kill()
            each.popen.wait()
