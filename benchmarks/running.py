"""Runs of the real program and of the baselines, each in a process of its own."""

import json
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.launch.devices import core_count, machine_is_busy

CHECKOUT = Path(__file__).resolve().parent.parent
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


@dataclass(frozen=True)
class Trained:
    """A finished run. first_step_seconds counts from the command to the first optimiser step's record."""

    result: dict[str, Any]
    journal: list[dict[str, Any]]
    first_step_seconds: float
    peak_megabytes: float

    @property
    def accuracy(self) -> float:
        return float(self.result["metrics"]["test/accuracy"])

    @property
    def seconds(self) -> float:
        return float(self.result["seconds"])

    def values(self, name: str) -> list[float]:
        return [each["values"][name] for each in self.journal if name in each.get("values", {})]


def train(*overrides: str, environment: dict[str, str] | None = None) -> Trained:
    """`pipeline train` in an empty folder, on a terminal (so its progress bar runs); `environment` adds to our own.

    Raises CalledProcessError when it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pipeline", "train", *overrides]
        started_at = time.time()
        code, peak = _on_a_terminal(command, folder, _environment() | (environment or {}))
        if code != 0:
            raise subprocess.CalledProcessError(code, command)
        run = Path(folder, "runs", "latest").resolve()
        journal = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
        first = next(each["time"] for each in journal if "train/loss" in each.get("values", {}))
        result = json.loads((run / "result.json").read_text())
        return Trained(result, journal, first / 1000 - started_at, peak)


def _on_a_terminal(command: list[str], folder: str, environment: dict[str, str]) -> tuple[int, float]:
    """Exit code, and the most memory (MB, resident) of one of its processes, as the kernel counted it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    threading.Thread(target=_read_all, args=[ours], daemon=True).start()
    _, status, usage = os.wait4(process.pid, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss * MAXRSS_UNIT / 1e6


def _read_all(terminal: int) -> None:
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        pass  # on Linux this is how a terminal ends
    os.close(terminal)


@cache
def _environment() -> dict[str, str]:
    """The same threads, and the same way of waiting for each other, on both sides."""
    settings = {"OMP_NUM_THREADS": str(core_count()), "TERM": "xterm-256color", "COLUMNS": "120"}
    # A run may name our callbacks.
    settings["PYTHONPATH"] = os.pathsep.join([*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(CHECKOUT)])
    return os.environ | settings | ({"OMP_WAIT_POLICY": "PASSIVE"} if machine_is_busy() else {})


def in_pairs(ours: Callable[[], float], theirs: Callable[[], float], pairs: int) -> list[tuple[float, float]]:
    """(ours, theirs) measured side by side, first the one and then the other first: what slows the machine down for a
    while, or over time, meets both."""
    found = []
    for number in range(pairs):
        if number % 2 == 0:
            mine = ours()
            other = theirs()
        else:
            other = theirs()
            mine = ours()
        found.append((mine, other))
    return found


def median_ratio(pairs: list[tuple[float, float]]) -> float:
    """Ours / theirs."""
    return statistics.median(mine / other for mine, other in pairs)


def medians(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(mine for mine, _ in pairs), statistics.median(other for _, other in pairs)


def baseline(name: str, *arguments: str) -> dict[str, Any]:
    """A script of baselines/, whose last line is JSON."""
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.baselines.{name}", *arguments]
    output = subprocess.run(
        command, cwd=CHECKOUT, env=_environment(), capture_output=True, text=True, check=True
    ).stdout
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer


def seconds_of(command: list[str], *, expected_code: int = 0) -> float:
    started_at = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != expected_code:
        raise subprocess.CalledProcessError(done.returncode, command, stderr=done.stderr)
    return time.perf_counter() - started_at
