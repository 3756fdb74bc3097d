"""Configurations that are evaluated several times, such as on each fold: their mean and spread count."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from pipeline.search.plan import Plan
from pipeline.search.space import Params, Value


@dataclass(frozen=True)
class CrossValidationScore:
    """`params` without the key that was repeated; `values` of the first objective, one for each finished trial of
    `wanted`."""

    metric: str
    params: Params
    values: list[float]
    wanted: int

    @property
    def mean(self) -> float:
        return statistics.mean(self.values)

    @property
    def spread(self) -> float | None:
        """The standard deviation between the trials; None of a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def sentence(self) -> str:
        spread = "" if self.spread is None else f" \u00b1 {self.spread:.4f}"
        lacking = "" if len(self.values) == self.wanted else f" of {self.wanted}"
        each = ", ".join(f"{value:.4f}" for value in self.values)
        return f"{self.metric} {self.mean:.4f}{spread} ({len(self.values)}{lacking}: {each})"


def cross_validation_scores(trials: Sequence[FrozenTrial], plan: Plan) -> list[CrossValidationScore]:
    """Return the scores, the best mean first; none where nothing is repeated, or nothing has finished."""
    key = plan.repeats
    if key is None:
        return []
    found: dict[tuple[tuple[str, Value], ...], list[FrozenTrial]] = {}
    for trial in trials:
        if trial.state == TrialState.COMPLETE and trial.values is not None:
            params = tuple((name, value) for name, value in trial.params.items() if name != key)
            found.setdefault(params, []).append(trial)
    metric, direction = next(iter(plan.objectives.items()))
    wanted = len(plan.space.dimensions[key].all_values() or ())
    estimates = [
        CrossValidationScore(metric, dict(params), [each.values[0] for each in _by_repeat(same, key)], wanted)
        for params, same in found.items()
    ]
    return sorted(estimates, key=lambda each: each.mean, reverse=direction == "maximize")


def _by_repeat(trials: Sequence[FrozenTrial], key: str) -> list[FrozenTrial]:
    return sorted(trials, key=lambda trial: (str(trial.params[key]).zfill(9), trial.number))


def format_scores_by_configuration(estimates: Sequence[CrossValidationScore], plan: Plan) -> list[str]:
    """Return a line for each."""
    values = [" ".join(plan.space.overrides(each.params)) for each in estimates]
    return [f"{each.sentence}  {text}".rstrip() for each, text in zip(estimates, values, strict=True)]


def best_params(trials: Sequence[FrozenTrial], plan: Plan, best: FrozenTrial) -> dict[str, Value]:
    """Return the values of the best configuration: by its mean where trials are repeated."""
    estimates = cross_validation_scores(trials, plan)
    return dict(estimates[0].params if estimates else best.params)
