"""Optuna's study of a search: its samplers, and the life of a trial from the queue to its end."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from pipeline.config import instantiate
from pipeline.search.optuna_private import set_user_attr
from pipeline.search.plan import CONFIG_FILE, LOCAL_LAUNCHER, OVERRIDES_FILE, Plan
from pipeline.search.space import Value
from pipeline.search.storage import STUDY_FILE, StudyLost, check_complete, open_storage, with_retry
from pipeline.seeds import derive_seed

# User attributes of trials.
WORKER = "worker"  # the identity of the worker that trains it
INSTEAD_OF = "instead_of"  # the number of the trial whose values it repeats
RETRY_OF = "retry_of"  # the same, where that trial failed
REASON = "reason"  # why it failed, was pruned or diverged
AGAIN = "again"  # another trial repeats its values
STOPPED = "stopped"  # it was stopped from outside, and did not fail
SPLIT_SCORES = "judged"  # {split: {metric: value}}, and {"samples": number of training samples}
EXCESS = "surplus"  # asked for when there were enough trials

IGNORED_ATTRS = {EXCESS, AGAIN}  # of trials that do not count for the seeds
DONE_STATES = (TrialState.COMPLETE, TrialState.PRUNED)
COUNTED_STATES = (*DONE_STATES, TrialState.RUNNING)
STATE_NAMES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.RUNNING: "running",
    TrialState.FAIL: "failed",
    TrialState.WAITING: "waiting",
}


def create_study(plan: Plan, folder: Path) -> Study:
    """Open the study of this search, or create it with the default configuration as its first trial.

    Raises StudyLost where trials are there, but not their study.
    """
    try:
        study = optuna.create_study(
            study_name=folder.name,
            storage=open_storage(plan.settings.storage, folder),
            directions=[StudyDirection[direction.upper()] for direction in plan.objectives.values()],
            load_if_exists=True,
        )
    except (KeyError, TypeError, AttributeError, AssertionError) as problem:  # whatever Optuna raises for such a file
        raise StudyLost(
            f"{folder / STUDY_FILE} holds no study of this version ({type(problem).__name__}: {problem}); put the "
            "original back, or begin another search with another name="
        ) from problem
    study.sampler = PerTrialSampler(plan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(plan.objectives))
    if not study.get_trials(deepcopy=False):
        check_complete(folder)
        for params in _initial_params(plan):
            study.enqueue_trial(params)
    for name, text in plan.to_texts().items():
        study.set_user_attr(name, text)
    return study


def open_study(plan: Plan, folder: Path) -> Study:
    study = optuna.load_study(study_name=folder.name, storage=open_storage(plan.settings.storage, folder))
    study.sampler = PerTrialSampler(plan)
    study.pruner = instantiate.instantiate(plan.settings.pruner, plan.config)
    return study


def find_plan_texts(address: str, folder: Path) -> dict[str, str] | None:
    """Return the texts of the plan that the database has for a search of this name; None if it has no such search."""
    try:
        study = optuna.load_study(study_name=folder.name, storage=open_storage(address, folder))
    except KeyError:
        return None
    return {name: str(study.user_attrs[name]) for name in (CONFIG_FILE, OVERRIDES_FILE)}


def total_trials(plan: Plan) -> int:
    n_trials = plan.settings.n_trials
    return len(plan.space.combinations(plan.fixed_options)) if n_trials is None else int(n_trials)


def ask_for_trial(study: Study, plan: Plan, total: int) -> Trial | None:
    """Return the next trial; None when `total` trials are finished, pruned or running."""
    trials = study.get_trials(deepcopy=False)
    if sum(trial.state in COUNTED_STATES for trial in trials) >= total:
        return None
    if plan.settings.n_trials is None and not any(trial.state == TrialState.WAITING for trial in trials):
        return None  # every combination has left the queue
    trial = study.ask()
    # Other workers may have asked at the same moment. Numbers are unique, so they say who was late.
    before = [other for other in study.get_trials(deepcopy=False) if other.number < trial.number]
    if sum(other.state in COUNTED_STATES for other in before) >= total:
        trial.set_user_attr(EXCESS, True)
        mark_failed(study, study.trials[trial.number], "there were enough already", again=False)
        return None
    return trial


def mark_failed(study: Study, trial: FrozenTrial, reason: str, *, again: bool) -> None:
    """Mark a trial as failed. With `again`, enqueue its values first, unless they failed before."""
    set_user_attr(study, trial, REASON, reason)
    if again and RETRY_OF not in trial.user_attrs:
        enqueue_again(study, trial, {RETRY_OF: trial.number})
    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def mark_stopped(study: Study, trial: FrozenTrial) -> None:
    """Mark a trial as stopped from outside, and enqueue its values first."""
    set_user_attr(study, trial, STOPPED, True)
    enqueue_again(study, trial, {key: value for key, value in trial.user_attrs.items() if key == RETRY_OF})
    mark_failed(study, trial, "asked to stop", again=False)


def enqueue_again(study: Study, trial: FrozenTrial, attrs: dict[str, Any]) -> None:
    """Enqueue the values of a trial, once.

    This comes before the trial itself is marked: if this process is killed in between, the next one finds the trial
    unmarked, and looks here whether its values are in the queue.
    """
    set_user_attr(study, trial, AGAIN, True)
    if not any(other.user_attrs.get(INSTEAD_OF) == trial.number for other in study.get_trials(deepcopy=False)):
        queued = trial.system_attrs.get("fixed_params", {})  # its values, if it died before it was asked for them
        study.enqueue_trial({**queued, **trial.params}, user_attrs={INSTEAD_OF: trial.number, **attrs})


def failed_trials(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return those that broke down, without those that were stopped or one too many."""
    return [
        trial
        for trial in trials
        if trial.state == TrialState.FAIL and not trial.user_attrs.get(EXCESS) and not trial.user_attrs.get(STOPPED)
    ]


def common_failure(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Return the newest failed trial if all trials so far failed, with different values and for one reason."""
    failed = failed_trials(trials)
    is_every_trial = not any(trial.state in DONE_STATES or trial.intermediate_values for trial in trials)
    is_one_reason = len({trial.user_attrs.get(REASON) for trial in failed}) == 1
    if is_every_trial and is_one_reason and any(trial.params != failed[0].params for trial in failed):
        return failed[-1]
    return None


def best_trials(study: Study) -> list[FrozenTrial]:
    """Return the best finished trial within all constraints; for several objectives, the Pareto front."""
    return with_retry(lambda: list(study.best_trials))


def best_trial(trials: list[FrozenTrial], plan: Plan) -> FrozenTrial | None:
    """Return the best finished trial within all constraints, by the first objective."""
    candidates = [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE and trial.values and max(trial.constraints.values(), default=0.0) <= 0
    ]
    sign = 1 if next(iter(plan.objectives.values())) == "maximize" else -1
    return max(candidates, key=lambda trial: sign * trial.values[0], default=None)


def _initial_params(plan: Plan) -> list[dict[str, Value]]:
    if plan.settings.n_trials is not None:
        return [plan.default_params()]
    combinations, default = plan.space.combinations(plan.fixed_options), plan.default_params()
    return sorted(combinations, key=lambda params: params != default)


class PerTrialSampler(BaseSampler):
    """Builds a fresh sampler for each trial; what it knows, it reads from the study.

    Trials that carry one of IGNORED_ATTRS are not counted for its seed, so that a search with one worker that was
    killed and resumed samples the same values. With several workers, each trial has a seed of its own.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.number = -1
        self.sampler: BaseSampler = RandomSampler()
        self.random_sampler: BaseSampler = RandomSampler()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler(study, trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        sampler = self._sampler(study, trial)
        return (self.random_sampler if self._has_own_seed else sampler).sample_independent(
            study, trial, param_name, param_distribution
        )

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler(study, trial).before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._sampler(study, trial).after_trial(study, trial, state, values)

    @property
    def _has_own_seed(self) -> bool:
        """Whether the sampler is one sequence for all trials, which differ by their place in it."""
        return "seed" in self.plan.settings.sampler

    def _sampler(self, study: Study, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self.number:
            seed = derive_seed(int(self.plan.config.seed), "search", self._seed_index(study, trial)) % 2**32
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                own_seed = {} if self._has_own_seed else {"seed": seed}
                self.sampler = instantiate.instantiate(self.plan.settings.sampler, self.plan.config, **own_seed)
            self.random_sampler = RandomSampler(seed=seed)
            self.number = trial.number
        return self.sampler

    def _seed_index(self, study: Study, trial: FrozenTrial) -> int:
        settings = self.plan.settings
        if settings.workers > 1 or settings.storage is not None or self.plan.config.launch._target_ != LOCAL_LAUNCHER:
            return trial.number
        before = (other for other in study.get_trials(deepcopy=False) if other.number < trial.number)
        return sum(other.state != TrialState.WAITING and not IGNORED_ATTRS & set(other.user_attrs) for other in before)
