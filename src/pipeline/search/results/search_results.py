"""How a search stands: what its trials have come to, and which of them stand out."""

import math
import shlex
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.errors import ConfigError
from pipeline.search import study as studies
from pipeline.search.plan import Plan
from pipeline.search.results import final_evaluation
from pipeline.search.results.cross_validation import Estimate, chosen, estimates_of
from pipeline.search.results.final_evaluation import Comparison
from pipeline.search.storage import with_retry
from pipeline.search.study import STATE_NAMES, best_trial

ORDER = {state: place for place, state in enumerate(STATE_NAMES)}


@dataclass(frozen=True)
class Objective:
    """`place` among the values of a trial."""

    name: str
    place: int
    is_maximized: bool

    def value(self, trial: FrozenTrial) -> float | None:
        """Of a finished trial; None of any other, and where it is no finite number."""
        if trial.state != TrialState.COMPLETE or trial.values is None:
            return None
        value = float(trial.values[self.place])
        return value if math.isfinite(value) else None

    def is_better(self, value: float, other: float) -> bool:
        return value > other if self.is_maximized else value < other

    def best(self, values: list[float]) -> float:
        return max(values) if self.is_maximized else min(values)


@dataclass(frozen=True)
class Standing:
    """trials  as Optuna keeps them, without those that were one too many
    front  of several objectives the trials that none is better than in each, else the best one
    comparison  with the default configuration on the test set, once there is one
    """

    plan: Plan
    folder: Path
    trials: list[FrozenTrial]
    front: list[FrozenTrial]
    wanted: int
    is_under_way: bool

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def objectives(self) -> list[Objective]:
        named = enumerate(self.plan.objectives.items())
        return [Objective(name, place, direction == "maximize") for place, (name, direction) in named]

    @cached_property
    def best(self) -> FrozenTrial | None:
        return best_trial(self.trials, self.plan)

    @cached_property
    def comparison(self) -> Comparison | None:
        if self.best is None:
            return None
        try:
            return final_evaluation.kept(self.plan, self.folder, chosen(self.trials, self.plan, self.best))
        except ConfigError:  # options that were there when the search began
            return None

    @cached_property
    def estimates(self) -> list[Estimate]:
        """The best first; none where nothing is repeated."""
        return estimates_of(self.trials, self.plan)

    @property
    def done(self) -> int:
        return sum(trial.state in studies.DONE_STATES for trial in self.trials)

    @property
    def state(self) -> str:
        if self.is_under_way:
            return "under way"
        return "finished" if self.done >= self.wanted else "stopped"

    @property
    def command_to_go_on(self) -> str:
        """With twice as many trials, where it has all that it was to have."""
        more = f" search.n_trials={2 * self.wanted}" if self.done >= self.wanted else ""
        return f"pipeline search name={self.name}{self.whereabouts}{more}"

    @property
    def whereabouts(self) -> str:
        """What has to follow the name in a command."""
        runs_dir = str(self.plan.config.runs_dir)
        return "" if runs_dir == "runs" else f" runs_dir={shlex.quote(runs_dir)}"

    @property
    def counts(self) -> str:
        """`20 of 20 trials: 12 finished, 8 pruned`"""
        found = Counter(trial.state for trial in self.trials)
        parts = [f"{found[state]} {word}" for state, word in STATE_NAMES.items() if found[state]]
        return f"{self.done} of {self.wanted} trials" + (f": {', '.join(parts)}" if parts else "")

    def ranked(self) -> list[FrozenTrial]:
        """The best first by the first objective, behind them those without a score by their state."""
        sign = -1 if self.objectives[0].is_maximized else 1

        def rank(trial: FrozenTrial) -> tuple[float, ...]:
            value = self.objectives[0].value(trial)
            return (ORDER[trial.state], math.inf if value is None else sign * value, trial.number)

        return sorted(self.trials, key=rank)


def standing_of(plan: Plan, folder: Path, study: Study, *, is_under_way: bool) -> Standing:
    told = with_retry(lambda: study.get_trials(deepcopy=False))
    trials = [each for each in told if not each.user_attrs.get(studies.EXCESS)]
    return Standing(plan, folder, trials, studies.best_trials(study), studies.total_trials(plan), is_under_way)


def scores_of(standing: Standing, trial: FrozenTrial) -> list[str]:
    """One for each objective; of a trial without values the newest one it was judged by."""
    if trial.values is not None:
        return [
            f"{value:,.0f}" if abs(value) >= 1000 and math.isfinite(value) else f"{value:.4f}" for value in trial.values
        ]
    newest = trial.intermediate_values[max(trial.intermediate_values)] if trial.intermediate_values else None
    first = "" if newest is None else f"{newest:.4f}"
    return [first, *("" for _ in standing.objectives[1:])]


def reason_of(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(studies.REASON, "")).partition("\n")[0]


def seconds_of(trial: FrozenTrial) -> float | None:
    return None if trial.duration is None else trial.duration.total_seconds()
