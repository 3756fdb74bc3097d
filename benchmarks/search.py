"""What a search costs beyond the trainings in it."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import optuna

from benchmarks.figure import Figure
from pipeline.search import plan as plans
from pipeline.search import study as studies

TRIALS = 24
COMMANDS = 4  # of the 24 that are run one after another; all take alike
SETTINGS = ("trainer.max_epochs=1", "tracking=none")
RATES = tuple(round(0.001 * number, 4) for number in range(1, TRIALS + 1))


def search(folder: Path | None) -> Iterator[Figure]:
    """The embedded digits and the small CNN: one worker for the overhead, two against separate commands."""
    seconds, overhead = _searched(workers=1)
    name = "search, one warm worker: a trial beyond its training"
    yield Figure(name, f"{overhead:.2f} s", None, overhead, 0.3, "lower", " s")
    seconds, _ = _searched(workers=2)
    one = statistics.mean(_command(rate) for rate in RATES[:COMMANDS])
    name = f"search, {TRIALS} trials with two workers: times as fast as `train` {TRIALS} times"
    yield Figure(name, f"{seconds:.0f} s", f"{TRIALS} x {one:.1f} s", TRIALS * one / seconds, 5, "higher", "x")


def _searched(*, workers: int) -> tuple[float, float]:
    """(seconds of the whole command, median seconds of a trial beyond its training)"""
    with tempfile.TemporaryDirectory() as home:
        rates = f"optimizer.learning_rate={','.join(map(str, RATES))}"
        words = ("name=s", "search=grid", "search.final_seeds=0", f"search.workers={workers}", rates)
        began = time.monotonic()
        _run(home, "search", *SETTINGS, *words)
        seconds = time.monotonic() - began
        place = Path(home, "runs", "searches", "s")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        trials = studies.open_study(plans.load(place), place).get_trials()
        assert len(trials) == TRIALS
        beyond = []
        for before, trial in zip([None, *trials], trials, strict=False):
            outcome = json.loads((place / "trials" / f"{trial.number:04}" / "outcome.json").read_text())
            since = trial.datetime_start if before is None or workers > 1 else before.datetime_complete
            assert trial.datetime_complete is not None and since is not None
            beyond.append((trial.datetime_complete - since).total_seconds() - outcome["seconds"])
    return seconds, statistics.median(beyond)


def _command(rate: float) -> float:
    with tempfile.TemporaryDirectory() as home:
        began = time.monotonic()
        _run(home, "train", *SETTINGS, f"optimizer.learning_rate={rate}")
        return time.monotonic() - began


def _run(home: str, *words: str) -> None:
    command = [sys.executable, "-m", "pipeline", *words]
    subprocess.run(command, cwd=home, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
