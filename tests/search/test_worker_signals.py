"""A worker that is told to end puts its trial back, whatever it is at."""

import os
import subprocess
import sys
from pathlib import Path

import optuna
from optuna.trial import TrialState

from pipeline.config.frozen import TrustPolicy
from pipeline.search import directory as folders
from pipeline.search import plan as plans
from pipeline.search import study as studies

SIGNALLED = """
import os, signal, sys
from pathlib import Path
from pipeline.config.frozen import TrustPolicy
from pipeline.search import study as studies, worker

def ask(*given):
    trial = asked(*given)
    os.kill(os.getpid(), signal.SIGTERM)  # the study has it, the worker not yet
    return trial

asked, studies.ask = studies.ask, ask
sys.exit(worker.main(Path(sys.argv[1]), "0", TrustPolicy()))
"""


def test_a_signal_that_comes_while_a_trial_is_asked_for_waits_for_it(empty_folder: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rate = "optimizer.learning_rate=interval(1e-4,1e-1)"
    plan = plans.make(["data=iris", "model=mlp", "tracking=none", "search.n_trials=2", rate])
    folder = empty_folder / "s"
    folders.make(folder)
    plan.save(folder)
    studies.create(plan, folder)
    command = [sys.executable, "-c", SIGNALLED, str(folder)]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert ended.returncode == 0, ended.stderr
    first, again = studies.open_study(plans.load(folder, TrustPolicy()), folder).get_trials()
    assert first.state == TrialState.FAIL and first.user_attrs[studies.STOPPED]
    assert again.state == TrialState.WAITING and again.user_attrs[studies.INSTEAD_OF] == first.number
