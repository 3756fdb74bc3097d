"""The trials of a search, in Optuna's words: who is asked for values, what is told, what became of those that died."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from pipeline.config import instantiate
from pipeline.search import plan as plans
from pipeline.search.optuna_private import set_user_attr
from pipeline.search.plan import LOCAL, Plan
from pipeline.search.space import Value
from pipeline.search.storage import STUDY, StudyLost, check_complete, open_storage, patiently
from pipeline.seeds import derive_seed


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
            seed = derive_seed(int(self.plan.config.seed), "search", self._place_of(study, trial)) % 2**32
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


# What Optuna keeps of each trial beyond its values.
WORKER = "worker"  # who trains it
INSTEAD_OF = "instead_of"  # the number of the trial whose values these are
RETRY_OF = "retry_of"  # the same, of one that failed
REASON = "reason"  # why it failed
AGAIN = "again"  # it failed, and another one has its values
STOPPED = "stopped"  # it was not its fault
JUDGED = "judged"  # {part: {metric: its value}}, and {"samples": those it was trained on}
SURPLUS = "surplus"  # asked for when there were enough already

PASSING = (SURPLUS, AGAIN)
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
COUNTED = (*DONE, TrialState.RUNNING)


def create(plan: Plan, folder: Path) -> Study:
    """The study of this search, made if it is not there yet, with the default configuration as its first trial.

    Raises StudyLost where trials are there, but not what is known of them.
    """
    try:
        study = optuna.create_study(
            study_name=folder.name,
            storage=open_storage(plan.settings.storage, folder),
            directions=[StudyDirection[direction.upper()] for direction in plan.objectives.values()],
            load_if_exists=True,
        )
    except (KeyError, TypeError, AttributeError, AssertionError) as problem:  # whatever Optuna makes of such lines
        raise StudyLost(
            f"{folder / STUDY} holds other than a study of this version ({type(problem).__name__}: {problem}); put "
            "back what it was, or begin another search with another name="
        ) from problem
    study.sampler = PerTrial(plan, PASSING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(plan.objectives))
    if not study.get_trials(deepcopy=False):
        check_complete(folder)
        for picked in _first(plan):
            study.enqueue_trial(picked)
    for name, text in plan.texts().items():
        study.set_user_attr(name, text)
    return study


def find(address: str, folder: Path) -> dict[str, str] | None:
    """What another machine keeps of the search of this name in the database: its plan's texts."""
    try:
        study = optuna.load_study(study_name=folder.name, storage=open_storage(address, folder))
    except KeyError:
        return None
    return {name: str(study.user_attrs[name]) for name in (plans.CONFIG, plans.FIXED)}


def open_study(plan: Plan, folder: Path) -> Study:
    study = optuna.load_study(study_name=folder.name, storage=open_storage(plan.settings.storage, folder))
    study.sampler, study.pruner = PerTrial(plan, PASSING), pruner(plan)
    return study


def total(plan: Plan) -> int:
    wanted = plan.settings.n_trials
    return len(plan.space.combinations(plan.settled)) if wanted is None else int(wanted)


def ask(study: Study, plan: Plan, wanted: int) -> Trial | None:
    """The next trial; None when there are `wanted` that are finished, pruned or under way."""
    trials = study.get_trials(deepcopy=False)
    if sum(trial.state in COUNTED for trial in trials) >= wanted:
        return None
    if plan.settings.n_trials is None and not any(trial.state == TrialState.WAITING for trial in trials):
        return None  # every combination has been in line
    trial = study.ask()
    # Others may have asked at the same moment. Numbers are given once, so they say who was late.
    before = [each for each in study.get_trials(deepcopy=False) if each.number < trial.number]
    if sum(each.state in COUNTED for each in before) >= wanted:
        trial.set_user_attr(SURPLUS, True)
        give_up(study, study.trials[trial.number], "there were enough already", again=False)
        return None
    return trial


def give_up(study: Study, trial: FrozenTrial, reason: str, *, again: bool) -> None:
    """Mark a trial as failed. With `again` its values are put first in line, unless they have failed twice."""
    set_user_attr(study, trial, REASON, reason)
    if again and RETRY_OF not in trial.user_attrs:
        put_in_line(study, trial, {RETRY_OF: trial.number})
    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def stop(study: Study, trial: FrozenTrial) -> None:
    """It did nothing wrong: its values are the next to be tried."""
    set_user_attr(study, trial, STOPPED, True)
    put_in_line(study, trial, {key: value for key, value in trial.user_attrs.items() if key == RETRY_OF})
    give_up(study, trial, "asked to stop", again=False)


def put_in_line(study: Study, trial: FrozenTrial, why: dict[str, Any]) -> None:
    """Before the trial itself is marked: whoever is killed in between is followed by one who looks for it."""
    set_user_attr(study, trial, AGAIN, True)
    if not any(each.user_attrs.get(INSTEAD_OF) == trial.number for each in study.get_trials(deepcopy=False)):
        fixed = trial.system_attrs.get("fixed_params", {})  # what it was to have, if it died before it was asked
        study.enqueue_trial({**fixed, **trial.params}, user_attrs={INSTEAD_OF: trial.number, **why})


def failures(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Those that broke down, without those that were only one too many or were stopped."""
    return [
        trial
        for trial in trials
        if trial.state == TrialState.FAIL and not trial.user_attrs.get(SURPLUS) and not trial.user_attrs.get(STOPPED)
    ]


def shared_failure(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The newest of those that failed, where all trials so far did, with different values and for one reason."""
    failed = failures(trials)
    values = [trial.params for trial in failed]
    is_all = not any(trial.state in DONE or trial.intermediate_values for trial in trials)
    one_reason = len({trial.user_attrs.get(REASON) for trial in failed}) == 1
    return failed[-1] if is_all and one_reason and any(each != values[0] for each in values) else None


def pruner(plan: Plan) -> BasePruner:
    found: BasePruner = instantiate.instantiate(plan.settings.pruner, plan.config)
    return found


def best(study: Study) -> list[FrozenTrial]:
    """The best finished trial that keeps all constraints; of several objectives all those that none beats in each."""
    return patiently(lambda: list(study.best_trials))


def _first(plan: Plan) -> list[dict[str, Value]]:
    if plan.settings.n_trials is not None:
        return [plan.default()]
    combinations, default = plan.space.combinations(plan.settled), plan.default()
    return sorted(combinations, key=lambda picked: picked != default)
