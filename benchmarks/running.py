"""Runs of the real program and of the baselines, each in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

CHECKOUT = Path(__file__).resolve().parent.parent
THREADS = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())}
TRAINING = "pipeline.lifecycle.rank"


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


def train(*overrides: str) -> Trained:
    """`pipeline train` in an empty folder; raises CalledProcessError when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pipeline", "train", *overrides]
        started_at = time.time()
        process = subprocess.Popen(command, cwd=folder, env=os.environ | THREADS, stdout=subprocess.DEVNULL)
        peak = _watch(process)
        if process.returncode != 0:
            raise subprocess.CalledProcessError(process.returncode, command)
        run = Path(folder, "runs", "latest").resolve()
        journal = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
        first = next(each["time"] for each in journal if "train/loss" in each.get("values", {}))
        result = json.loads((run / "result.json").read_text())
        return Trained(result, journal, first / 1000 - started_at, peak)


def _watch(process: "subprocess.Popen[bytes]") -> float:
    """Wait for its end; the most memory (MB, resident) that its training process ever held."""
    peak = 0.0
    while process.poll() is None:
        try:
            children = psutil.Process(process.pid).children()
            training = [child for child in children if TRAINING in " ".join(child.cmdline())]
            peak = max([peak, *(child.memory_info().rss / 1e6 for child in training)])
        except psutil.Error:
            pass  # it has just ended
        time.sleep(0.1)
    return peak


def baseline(name: str, *arguments: str) -> dict[str, Any]:
    """A script of baselines/, whose last line is JSON."""
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.baselines.{name}", *arguments]
    output = subprocess.run(
        command, cwd=CHECKOUT, env=os.environ | THREADS, capture_output=True, text=True, check=True
    ).stdout
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer


def seconds_of(command: list[str], *, expected_code: int = 0) -> float:
    started_at = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != expected_code:
        raise subprocess.CalledProcessError(done.returncode, command, stderr=done.stderr)
    return time.perf_counter() - started_at
