"""The figures of the run engine: several processes, what it costs, how soon a killed run goes on."""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.data import mnist
from benchmarks.figure import Figure
from benchmarks.running import in_pairs, median_ratio, medians, train
from pipeline.launch.devices import core_count

PAIRS = 5
ALONE = "trainer.devices=1"
TWO = "trainer.devices=2"
CHECKPOINT_MINUTES = 10 / 60
# 784-5000-4000-100-10: 24 million weights, 98 MB.
LARGE = ("model=mlp", "model.widths=[5000,4000,100]", "model.dropout=0", "callbacks=none")
PATIENCE_SECONDS = 300.0


def ranks(folder: Path | None) -> Iterator[Figure]:
    """Two processes with a thread each against one with two threads, the same global batch; and, interval by interval,
    against two of which each drops out and norms its own share."""
    settings = (*_mnist(folder, 3), "model=cnn", "trainer.accelerator=cpu")

    def speed(devices: str, threads: int) -> float:
        run = train(*settings, devices, environment={"OMP_NUM_THREADS": str(threads)})
        return statistics.median(run.values("system/samples_per_second")[1:])

    pairs = in_pairs(lambda: speed(TWO, 1), lambda: speed(ALONE, 2), PAIRS)
    two, one = (f"{each:,.0f}/s" for each in medians(pairs))
    yield Figure("CNN, two processes: share of one's speed", two, one, median_ratio(pairs), 0.9, "higher")
    for model in ("cnn", "mlp"):
        often = "trainer.log_every_n_steps=20"
        settings = (*_mnist(folder, 3), f"model={model}", "trainer.accelerator=cpu", TWO, often)
        pairs = _probed("GlobalBatchAside", *settings, environment={"OMP_NUM_THREADS": "1"})
        whole, own = (f"{1000 * seconds:.2f} ms/step" for seconds in medians([(a, b) for a, b in pairs]))
        added = 100 * (median_ratio([(a, b) for a, b in pairs]) - 1)
        what = f"{model}, two processes: what dropout and batch norm of the global batch add"
        yield Figure(what, whole, own, added, 3, "lower", " %")


def overhead(folder: Path | None) -> Iterator[Figure]:
    """Agreement, a checkpoint every 10 s and journal, interval by interval in one run, with and without."""
    for devices, name in ((ALONE, "1 process"), (TWO, "2 processes")):
        # Short intervals, because there have to be many: a machine's moods are larger than what is looked for.
        often = "trainer.log_every_n_steps=20"
        settings = (*_mnist(folder, 8), devices, often, "model=cnn", f"checkpoint.every_n_minutes={CHECKPOINT_MINUTES}")
        threads = {"OMP_NUM_THREADS": str(core_count() // 2 if devices == TWO else core_count())}
        pairs = _probed("EngineAside", *settings, environment=threads)
        mine, bare = (f"{1000 * seconds:.2f} ms/step" for seconds in medians([(a, b) for a, b in pairs]))
        added = 100 * (median_ratio([(a, b) for a, b in pairs]) - 1)
        yield Figure(f"engine's share of a CNN's step, {name}", mine, bare, added, 2, "lower", " %")


def checkpoint(folder: Path | None) -> Iterator[Figure]:
    """How long a checkpoint of a 100 MB model (300 MB with AdamW's states) stops training."""
    found = _probed("Blocked", *_mnist(folder, 1), *LARGE, "checkpoint.every_n_steps=20", "trainer.max_steps=100")
    longest = max(found["seconds"])
    what = f"{found['bytes'] / 1e6:.0f} MB of weights, longest of {len(found['seconds'])}"
    yield Figure(f"checkpoint stops training, {what}", f"{longest:.2f} s", None, longest, 0.3, "lower", " s")


def restart(folder: Path | None) -> Iterator[Figure]:
    """From `kill -9` of the command to the resumed run's next optimiser step, beyond what a start takes."""
    pairs = [_killed() for _ in range(PAIRS)]
    again, start = (f"{seconds:.1f} s" for seconds in medians(pairs))
    beyond = statistics.median(after - before for after, before in pairs)
    yield Figure("kill -9 to the next step, beyond a start", again, start, beyond, 2, "lower", " s")


def _killed() -> tuple[float, float]:
    """Seconds from the kill to the next step, and from the first command to its first step."""
    settings = ("trainer.max_epochs=100000", "trainer.log_every_n_steps=1", "tracking=none", "callbacks=none")
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "pipeline", "train", *settings, "name=killed", "auto_resume=true"]
        first_at = time.time()
        first = subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        start = _first_step(home, "start") - first_at
        time.sleep(3)
        killed_at = time.time()
        first.send_signal(signal.SIGKILL)
        first.wait()
        second = subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        again = _first_step(home, "resume") - killed_at
        second.send_signal(signal.SIGTERM)
        second.wait(PATIENCE_SECONDS)
    return again, start


def _first_step(home: str, after: str) -> float:
    """When the first step after the journal's newest record of this kind was recorded."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for path in Path(home).glob("runs/2*/journal.jsonl"):
            records = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
            began = [number for number, each in enumerate(records) if each["kind"] == after]
            steps = [each["time"] for each in records[began[-1] :] if each["kind"] == "metrics"] if began else []
            if steps:
                return float(steps[0]) / 1000
        time.sleep(0.02)
    raise TimeoutError(f"no step after a {after} within {PATIENCE_SECONDS:g} s")


def _probed(probe: str, *settings: str, environment: dict[str, str] | None = None) -> Any:
    """What a callback of benchmarks.probes found in a run."""
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.json")
        added = (f"+callbacks.probe={{_target_: benchmarks.probes.{probe}, report: {report}}}",)
        train(*settings, "allow_packages=[benchmarks]", *added, environment=environment)
        return json.loads(Path(report).read_text())


def _mnist(folder: Path | None, epochs: int) -> tuple[str, ...]:
    return "data=mnist", f"data.root={mnist(folder)}", f"trainer.max_epochs={epochs}", "tracking=none"
