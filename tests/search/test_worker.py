"""A worker by itself: no driver looks at what it does."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.frozen import MADE_HERE_FLAG
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
def test_it_begins_no_trial_that_is_known_to_fail(
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
    studies.create(search.plan, search.folder)
    command = module_command("pipeline.search.worker", str(search.folder))
    workers = [subprocess.Popen([*command, str(name), MADE_HERE_FLAG], cwd=tmp_path) for name in range(count)]
    assert [worker.wait(120) for worker in workers] == [0] * count
    trials = [trial for trial in search.study.get_trials() if trial.state.is_finished()]
    assert len(trials) <= enough + count - 1, [(trial.params, trial.user_attrs) for trial in trials]
