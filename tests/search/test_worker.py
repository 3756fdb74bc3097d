"""A worker by itself, without a supervisor."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from pipeline.config.frozen import MADE_HERE_FLAG, TrustPolicy
from pipeline.search import directory as folders
from pipeline.search import plan as plans
from pipeline.search import study as studies
from pipeline.system.process import module_command

SMALL = ("data=iris", "model=mlp", "trainer.max_epochs=1", "tracking=none", "search.max_failures=6")
BROKEN = """
class Net:
    def __init__(self, *, spec):
        raise RuntimeError("broken")
"""
VAIN = [  # what is typed, and how many trials show that others would fail as well
    (("data=diabetes", "model=linear_regression", "optimizer.learning_rate=0.1,0.3,0.5"), 1),
    (("search=grid", "data.batch_size=5000", "seed=0,1,2,3,4,5"), 2),
    (("search=grid", "model._target_=broken.Net", "~model.widths", "allow_packages=[broken]", "seed=0,1,2,3,4,5"), 3),
]


@pytest.mark.parametrize("typed, enough", VAIN)
@pytest.mark.parametrize("count", [1, 2])
def test_a_worker_starts_no_trial_that_is_known_to_fail(
    make_search: Callable[..., Any],
    typed: tuple[str, ...],
    enough: int,
    count: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    search = make_search([*SMALL, *typed], [])
    studies.create_study(search.plan, search.folder)
    command = module_command("pipeline.search.worker", str(search.folder))
    workers = [subprocess.Popen([*command, str(name), MADE_HERE_FLAG], cwd=tmp_path) for name in range(count)]
    assert [worker.wait(120) for worker in workers] == [0] * count
    trials = [trial for trial in search.study.get_trials() if trial.state.is_finished()]
    assert len(trials) <= enough + count - 1, [(trial.params, trial.user_attrs) for trial in trials]


SIGNALLED = """
import os, signal, sys
from pathlib import Path
from pipeline.config.frozen import TrustPolicy
from pipeline.search import worker

def ask_and_signal(*arguments):
    trial = ask_for_trial(*arguments)
    os.kill(os.getpid(), signal.SIGTERM)  # the study has the trial, the worker not yet
    return trial

ask_for_trial, worker.ask_for_trial = worker.ask_for_trial, ask_and_signal
sys.exit(worker.main(Path(sys.argv[1]), "0", TrustPolicy()))
"""


def test_a_worker_that_is_stopped_while_it_asks_for_a_trial_puts_the_trial_back(empty_folder: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rate = "optimizer.learning_rate=interval(1e-4,1e-1)"
    plan = plans.create_plan(["data=iris", "model=mlp", "tracking=none", "search.n_trials=2", rate])
    folder = empty_folder / "s"
    folders.create_search_directory(folder)
    plan.save(folder)
    studies.create_study(plan, folder)
    command = [sys.executable, "-c", SIGNALLED, str(folder)]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert ended.returncode == 0, ended.stderr
    first, again = studies.open_study(plans.load_plan(folder, TrustPolicy()), folder).get_trials()
    assert first.state == TrialState.FAIL and first.user_attrs[studies.STOPPED]
    assert again.state == TrialState.WAITING and again.user_attrs[studies.INSTEAD_OF] == first.number
