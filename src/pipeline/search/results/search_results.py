"""The results of a search so far: its trials, their scores, and the best of them."""

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
from pipeline.search.results.cross_validation import CrossValidationScore, best_params, cross_validation_scores
from pipeline.search.results.final_evaluation import FinalComparison
from pipeline.search.storage import with_retry
from pipeline.search.study import STATE_NAMES, best_trial

ORDER = {state: place for place, state in enumerate(STATE_NAMES)}


@dataclass(frozen=True)
class Objective:
    """One objective; `place` is its index in the values of a trial."""

    name: str
    place: int
    is_maximized: bool

    def value(self, trial: FrozenTrial) -> float | None:
        """Return the value of a finished trial; None for any other, and where it is not finite."""
        if trial.state != TrialState.COMPLETE or trial.values is None:
            return None
        value = float(trial.values[self.place])
        return value if math.isfinite(value) else None

    def is_better(self, value: float, other: float) -> bool:
        return value > other if self.is_maximized else value < other

    def best(self, values: list[float]) -> float:
        return max(values) if self.is_maximized else min(values)


@dataclass(frozen=True)
class SearchResults:
    """What a search has found so far.

    trials      as Optuna stores them, without those that exceed the number asked for
    front       the Pareto front for several objectives, else the best trial
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
    def comparison(self) -> FinalComparison | None:
        if self.best is None:
            return None
        try:
            return final_evaluation.saved_comparison(
                self.plan, self.folder, best_params(self.trials, self.plan, self.best)
            )
        except ConfigError:  # options that were there when the search began
            return None

    @cached_property
    def estimates(self) -> list[CrossValidationScore]:
        """The best first; none where nothing is repeated."""
        return cross_validation_scores(self.trials, self.plan)

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
        """How many trials ended how, such as `20 of 20 trials: 12 finished, 8 pruned`."""
        found = Counter(trial.state for trial in self.trials)
        parts = [f"{found[state]} {word}" for state, word in STATE_NAMES.items() if found[state]]
        return f"{self.done} of {self.wanted} trials" + (f": {', '.join(parts)}" if parts else "")

    def ranked(self) -> list[FrozenTrial]:
        """Return the trials, the best by the first objective first; those without a score follow by state."""
        sign = -1 if self.objectives[0].is_maximized else 1

        def rank(trial: FrozenTrial) -> tuple[float, ...]:
            value = self.objectives[0].value(trial)
            return (ORDER[trial.state], math.inf if value is None else sign * value, trial.number)

        return sorted(self.trials, key=rank)


def read_search_results(plan: Plan, folder: Path, study: Study, *, is_under_way: bool) -> SearchResults:
    told = with_retry(lambda: study.get_trials(deepcopy=False))
    trials = [each for each in told if not each.user_attrs.get(studies.EXCESS)]
    return SearchResults(plan, folder, trials, studies.best_trials(study), studies.total_trials(plan), is_under_way)


def format_trial_scores(results: SearchResults, trial: FrozenTrial) -> list[str]:
    """Return a text for each objective; for a trial without values, the newest intermediate value."""
    if trial.values is not None:
        return [
            f"{value:,.0f}" if abs(value) >= 1000 and math.isfinite(value) else f"{value:.4f}" for value in trial.values
        ]
    newest = trial.intermediate_values[max(trial.intermediate_values)] if trial.intermediate_values else None
    first = "" if newest is None else f"{newest:.4f}"
    return [first, *("" for _ in results.objectives[1:])]


def failure_reason(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(studies.REASON, "")).partition("\n")[0]


def trial_seconds(trial: FrozenTrial) -> float | None:
    return None if trial.duration is None else trial.duration.total_seconds()
