"""What a search costs beyond the trainings in it."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from tests.tracking import servers

from benchmarks.figure import Figure, Skipped
from pipeline.config.frozen import TrustPolicy
from pipeline.search import plan as plans
from pipeline.search import study as studies

TRIALS = 24
PRUNED_TRIALS = 40
PRUNED_SEEDS = (0, 1, 2)
SHARE_OF_MNIST = "data.train_fraction=0.032"  # 1,760 samples, as many as half of the embedded digits
CROWD = 400
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


def pruning(folder: Path | None) -> Iterator[Figure]:
    """The same searches with the default pruner and without one: epochs that were trained, and the mean best score.

    With the whole of MNIST 5,000 samples judge a trial, and a point is 50 of them; the embedded digits have 500.
    """
    few = ("data.train_fraction=0.5",) if folder is None else ("data=mnist", f"data.root={folder}", SHARE_OF_MNIST)
    pairs = [(_pruned("median", seed, few), _pruned("none", seed, few)) for seed in PRUNED_SEEDS]
    epochs, whole = (sum(pair[side][0] for pair in pairs) for side in (0, 1))
    best, reference = (statistics.mean(pair[side][1] for pair in pairs) for side in (0, 1))
    share = epochs / whole
    name = f"search, {len(pairs)} times {PRUNED_TRIALS} trials, pruned: share of the epochs"
    yield Figure(name, f"{epochs} epochs", f"{whole} epochs", share, 0.5, "lower", "x")
    behind = 100 * (reference - best)
    name = "search, pruned: points of val/accuracy behind the one without pruning"
    yield Figure(name, f"{best:.4f}", f"{reference:.4f}", behind, 0.2, "lower")


def crowd(folder: Path | None) -> Iterator[Figure]:
    """Eight workers on a journal file, and on PostgreSQL where Debian's is installed."""
    yield from _crowded("a journal file")
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        try:
            address, password, _ = stack.enter_context(servers.postgres(Path(place)))
        except pytest.skip.Exception as reason:
            raise Skipped(str(reason)) from None
        os.environ["PGPASSWORD"] = password
        yield from _crowded("PostgreSQL", f"search.storage={address}")


def _pruned(pruner: str, seed: int, data: tuple[str, ...]) -> tuple[int, float]:
    """(epochs of all trials, best score)"""
    space = ("optimizer.learning_rate=tag(log,interval(1e-5,1e-1))", "model.dropout=interval(0,0.7)")
    count = (f"search.n_trials={PRUNED_TRIALS}", "trainer.max_epochs=12", f"seed={seed}", *data)
    with tempfile.TemporaryDirectory() as home:
        trials = _trials(home, "model=mlp", *count, *space, f"search/pruner={pruner}")
    epochs = sum(len(trial.intermediate_values) for trial in trials)
    return epochs, max(trial.value for trial in trials if trial.state == TrialState.COMPLETE and trial.value)


def _crowded(storage: str, *words: str) -> Iterator[Figure]:
    small = ("model=softmax_regression", "data.train_fraction=0.1", "trainer.max_epochs=10", "callbacks=none")
    rate = "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))"
    count = (f"search.n_trials={CROWD}", "search.workers=8", "search/pruner=none", "search/sampler=random")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        trials = _trials(home, *small, rate, *count, *words)
        told = sum(len(trial.intermediate_values) for trial in trials if trial.state == TrialState.COMPLETE)
        kept = len({str(trial.params) for trial in trials if trial.state == TrialState.COMPLETE})
        outcomes = len(list(Path(home, "runs", "searches", "s", "trials").glob("*/outcome.json")))
    seconds = time.monotonic() - began
    name = f"8 workers on {storage}, {CROWD} trials of 10 reports"
    yield Figure(f"{name}: trials finished, each once", f"{kept} in {seconds:.0f} s", None, kept, CROWD, "higher")
    yield Figure(f"{name}: trials beyond", str(len(trials)), None, outcomes - CROWD, 0, "lower")
    yield Figure(f"{name}: reports", f"{told:,}", None, told, 10 * CROWD, "higher")


def _trials(home: str, *words: str) -> list[FrozenTrial]:
    _run(home, "search", "name=s", "tracking=none", "search.final_seeds=0", *words)
    return _trials_in(Path(home, "runs", "searches", "s"))


def _trials_in(place: Path) -> list[FrozenTrial]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return studies.open_study(plans.load_plan(place, TrustPolicy()), place).get_trials()


def _searched(*, workers: int) -> tuple[float, float]:
    """(seconds of the whole command, median seconds of a trial beyond its training)"""
    with tempfile.TemporaryDirectory() as home:
        rates = f"optimizer.learning_rate={','.join(map(str, RATES))}"
        words = ("name=s", "search=grid", "search.final_seeds=0", f"search.workers={workers}", rates)
        began = time.monotonic()
        _run(home, "search", *SETTINGS, *words)
        seconds = time.monotonic() - began
        place = Path(home, "runs", "searches", "s")
        trials = _trials_in(place)
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
