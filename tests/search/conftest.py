"""Searches made by hand: a real plan and a real study, with trials that have ended as a test wants."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from pipeline.search import directory as folders
from pipeline.search import plan as plans
from pipeline.search import study as studies
from pipeline.search.plan import SEARCHES_FOLDER, Plan
from pipeline.search.results.search_results import SearchResults, read_search_results
from pipeline.search.space import Choices, Dimension
from pipeline.search.storage import open_storage

BEGAN = datetime(2026, 3, 1, 9, 0, 0)  # noqa: DTZ001  as Optuna's


@dataclass(frozen=True)
class Ended:
    """A trial as it ended; of `values` one for each objective."""

    params: dict[str, Any]
    values: Sequence[float] | None = None
    state: TrialState = TrialState.COMPLETE
    curve: dict[int, float] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    worker: int = 0
    after_seconds: float = 0.0  # the end of the one before it


@dataclass(frozen=True)
class Search:
    plan: Plan
    folder: Path
    study: Study

    def results(self, *, is_under_way: bool = False) -> SearchResults:
        return read_search_results(self.plan, self.folder, self.study, is_under_way=is_under_way)


MakeSearch = Callable[..., Search]


@pytest.fixture
def make_search(tmp_path: Path) -> MakeSearch:
    """make_search(words as typed, trials, name="s") in tmp_path/runs."""

    def make(words: Sequence[str], trials: Sequence[Ended], name: str = "s") -> Search:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        folder = tmp_path / "runs" / SEARCHES_FOLDER / name
        folders.create_search_directory(folder)
        plan = plans.create_plan([*words, f"runs_dir={tmp_path / 'runs'}"])
        plan.save(folder)
        directions = list(plan.objectives.values())
        study = optuna.create_study(study_name=name, storage=open_storage(None, folder), directions=directions)
        clock = BEGAN
        for trial in trials:
            dimensions = {key: distribution_of(plan.space.dimensions[key]) for key in trial.params}
            frozen = create_trial(
                state=trial.state,
                values=trial.values,
                params=trial.params,
                distributions=dimensions,
                intermediate_values=trial.curve,
                user_attrs={studies.WORKER: {"name": str(trial.worker), "host": "h"}, **trial.attributes},
            )
            clock += timedelta(seconds=trial.after_seconds)
            frozen.datetime_start = clock
            clock += timedelta(seconds=30)
            frozen.datetime_complete = clock if trial.state.is_finished() else None
            study.add_trial(frozen)
        os.utime(folder / "config.yaml", (clock.timestamp(), clock.timestamp()))
        return Search(plan, folder, studies.open_study(plan, folder))

    return make


def distribution_of(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.labels)
    if dimension.is_whole:
        step = 1 if dimension.step is None else int(dimension.step)
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.is_log, step=step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.is_log, step=dimension.step)
