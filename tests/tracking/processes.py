"""A small training process with a sidecar, as a run has them, to be killed."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from pipeline.tracking.mlflow.mlflow_client import mlflow_client

# argv: run directory, address, steps. It tells its sidecar's process id, and at its end whether everything arrived.
TRAINING = """# warm
import sys, time
from pathlib import Path
from pipeline.tracking import sidecar
from pipeline.tracking.journal import Journal
run_dir, uri, steps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
journal = Journal(run_dir / "journal.jsonl")
journal.start(name="cnn", experiment="digits", run_uid=run_dir.name, params={}, tags={})
handle = sidecar.start_sidecar(run_dir, uri=uri, artifacts=str(run_dir.parent / "artifacts"), on_model=None)
print(handle.process.pid, flush=True)
for step in range(steps):
    journal.metrics({"loss": float(step)}, step=step)
    time.sleep(0.01)
    if (run_dir / "stop").exists():
        break
journal.end("FINISHED")
print(handle.wait(60, for_model=True).complete, flush=True)
"""


class Trainings:
    """Called, it starts one; none outlives the test."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> "Trainings":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.started:
            process.kill()
            process.wait()

    def __call__(self, uri: str, *, steps: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", TRAINING, str(self.run_dir), uri, str(steps)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.started.append(process)
        return process


def sidecar_of(process: subprocess.Popen[str]) -> psutil.Process:
    assert process.stdout is not None
    return psutil.Process(int(process.stdout.readline()))


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def wait_for(condition: Callable[[], Any], timeout_seconds: float = 60) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def state(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "sync.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def find_run(uri: str, run_dir: Path) -> Any:
    """The only one that MLflow has of this run directory."""
    client = mlflow_client(uri)
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], f"tags.run_uid = '{run_dir.name}'")
    return run
