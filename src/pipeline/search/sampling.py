"""Which values a trial is given: by a sampler of Optuna's whose seed follows from the search's and the trial."""

import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.config import instantiate
from pipeline.search.plan import LOCAL, Plan
from pipeline.seeds import derive


class PerTrial(BaseSampler):
    """A fresh sampler for each trial: what it knows it reads from the study.

    `passing` are attributes of trials that do not count: a search that was killed and taken up again by its one worker
    asks for the same values. Of several workers each asks for its own.
    """

    def __init__(self, plan: Plan, passing: Sequence[str]) -> None:
        self.plan = plan
        self.passing = frozenset(passing)
        self.number = -1
        self.sampler: BaseSampler = RandomSampler()
        self.at_random: BaseSampler = RandomSampler()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(study, trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        sampler = self._of(study, trial)
        return (self.at_random if self._has_own_seed else sampler).sample_independent(
            study, trial, param_name, param_distribution
        )

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._of(study, trial).before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._of(study, trial).after_trial(study, trial, state, values)

    @property
    def _has_own_seed(self) -> bool:
        """One sequence for all trials, which are told apart by their place in it."""
        return "seed" in self.plan.settings.sampler

    def _of(self, study: Study, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self.number:
            seed = derive(int(self.plan.config.seed), "search", self._place_of(study, trial)) % 2**32
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                own = {} if self._has_own_seed else {"seed": seed}
                self.sampler = instantiate.instantiate(self.plan.settings.sampler, self.plan.config, **own)
            self.at_random = RandomSampler(seed=seed)
            self.number = trial.number
        return self.sampler

    def _place_of(self, study: Study, trial: FrozenTrial) -> int:
        settings = self.plan.settings
        if settings.workers > 1 or settings.storage is not None or self.plan.config.launch._target_ != LOCAL:
            return trial.number
        before = (each for each in study.get_trials(deepcopy=False) if each.number < trial.number)
        return sum(each.state != TrialState.WAITING and not self.passing & set(each.user_attrs) for each in before)
