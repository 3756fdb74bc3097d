"""The program as its users start it: a real process in a directory of its own, and one finished run to look at."""

import json
import os
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

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "pipeline")
PATIENCE_SECONDS = 120.0
# Two at a time: what these processes do most is import torch, on one core each.
AT_ONCE = 2
# A small network on part of the embedded digits: 10 steps an epoch, and no MLflow unless it is the subject.
SMALL = (
    "model.widths=[4,8]",
    "data.train_fraction=0.37",
    "trainer.max_epochs=3",
    "trainer.log_every_n_steps=4",
    "checkpoint.every_n_steps=3",
    "tracking=none",
)


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    code: int
    out: str
    err: str
    seconds: float


class Process:
    """`pipeline <arguments>` under way; its output goes to files, so that it never waits for a reader."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: dict[str, str], *, program: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log = folder / f".{time.monotonic_ns()}"
        self.started_at = time.monotonic()
        with self.log.with_suffix(".out").open("wb") as out, self.log.with_suffix(".err").open("wb") as err:
            self.process = subprocess.Popen(
                [program, *arguments],
                cwd=folder,
                env=os.environ | {"COLUMNS": "200"} | environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0,
            )

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def children(self) -> list[psutil.Process]:
        """Those that train; who carries the journal to MLflow lives in a session of its own."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        return [each for each in below if "pipeline.lifecycle.train" in each.cmdline()]

    def journal(self) -> list[dict[str, Any]]:
        paths = list(self.folder.glob("runs/2*/journal.jsonl"))
        lines = paths[0].read_text().splitlines() if paths else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def reaches(self, step: int, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Waits until a metric of this optimiser step or a later one is in the journal."""
        self.until(lambda: any(each.get("step", -1) >= step for each in self.journal()), seconds)

    def until(self, happened: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert self.process.poll() is None, f"ended early\n{self.end()}"
            assert time.monotonic() < deadline, f"nothing happened\n{self.log.with_suffix('.out').read_text()}"
            time.sleep(0.05)

    def end(self, seconds: float = PATIENCE_SECONDS) -> Ended:
        code = self.process.wait(seconds)
        out, err = (self.log.with_suffix(suffix).read_text() for suffix in (".out", ".err"))
        return Ended(code, out, err, time.monotonic() - self.started_at)


def start(folder: Path, *arguments: str, program: str = PROGRAM, **environment: str) -> Process:
    return Process(arguments, folder, environment, program=program)


def run(folder: Path, *arguments: str, program: str = PROGRAM, **environment: str) -> Ended:
    return start(folder, *arguments, program=program, **environment).end()


def side_by_side(jobs: dict[str, Callable[[], Ended]]) -> dict[str, Ended]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {name: pool.submit(job) for name, job in jobs.items()}
        return {name: future.result() for name, future in futures.items()}


@dataclass(frozen=True)
class Finished:
    """A run that went through without a disturbance."""

    folder: Path  # the run directory
    arguments: tuple[str, ...]
    ended: Ended

    @property
    def root(self) -> Path:
        return self.folder.parent.parent

    @property
    def result(self) -> dict[str, Any]:
        return result_of(self.folder)


def result_of(run_dir: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((run_dir / "result.json").read_text())
    return result


def only_run(root: Path) -> Path:
    (folder,) = (path.parent for path in root.glob("runs/2*/config.yaml"))
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Trained once for all tests that only look at it: they copy it before they change anything."""
    root = tmp_path_factory.mktemp("finished")
    arguments = ("train", *SMALL)
    ended = run(root, *arguments)
    assert ended.code == 0, ended.err
    return Finished(only_run(root), arguments, ended)


@pytest.fixture
def program() -> Iterator[type[Program]]:
    yield Program


class Program:
    """What tests do with the program."""

    SMALL = SMALL
    start = staticmethod(start)
    run = staticmethod(run)
    side_by_side = staticmethod(side_by_side)
    only_run = staticmethod(only_run)
    result_of = staticmethod(result_of)
