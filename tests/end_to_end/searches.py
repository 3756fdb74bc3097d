"""What tests of a search look at: its trials as the storage knows them, and its directory."""

import time
from pathlib import Path

import optuna
import psutil
from optuna.trial import FrozenTrial, TrialState

from pipeline.config.frozen import TrustPolicy
from pipeline.search import plan as plans
from pipeline.search import study as studies

# A trial takes about a second; nothing is tracked, and nothing tested, unless that is what a test is about.
SMALL = (
    "search",
    "name=s",
    "model=softmax_regression",
    "data.train_fraction=0.2",
    "trainer.max_epochs=2",
    "callbacks=none",
    "tracking=none",
    "search.final_seeds=0",
)
RATE = "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))"
LONG = "trainer.max_epochs=100"  # two seconds of computing, in which it can be killed
PATIENCE_SECONDS = 120.0


def trials_in(home: Path) -> list[FrozenTrial]:
    folder = home / "runs" / "searches" / "s"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return studies.open_study(plans.load_plan(folder, TrustPolicy()), folder).get_trials()


def done(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state in studies.DONE_STATES]


def wait_for(home: Path, *, ended: int, running: int) -> list[FrozenTrial]:
    """Until so many trials have ended, and of the others so many have a worker that trains them."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if list((home / "runs" / "searches" / "s").glob("trials/*")):
            trials = trials_in(home)
            busy = [each for each in trials if each.state == TrialState.RUNNING and studies.WORKER in each.user_attrs]
            started = [each for each in busy if (journal_of(home, each.number)).exists()]
            if len(done(trials)) >= ended and len(started) >= running:
                return started
        time.sleep(0.05)
    raise TimeoutError(f"{ended} ended and {running} running trials did not come")


def journal_of(home: Path, number: int) -> Path:
    return home / "runs" / "searches" / "s" / "trials" / f"{number:04}" / "journal.jsonl"


def left_behind(home: Path) -> list[str]:
    """What still runs in this directory."""
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if str(home) in line]
