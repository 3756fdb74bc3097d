"""The directory of a search, `runs/searches/NAME`: its lock and stop files, and the results of its trials."""

import json
import math
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from omegaconf import DictConfig
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.config import compose
from pipeline.errors import ConfigError, RunError, TrainingFailed
from pipeline.run_files import DamagedFileError, RunFile
from pipeline.runs.run_directory import Run
from pipeline.search import study as studies
from pipeline.search.optuna_private import set_constraint, set_user_attr
from pipeline.search.plan import Plan
from pipeline.search.space import Params
from pipeline.search.storage import TRIALS_FOLDER, is_stale, trial_directory, try_lock_folder, try_lock_study
from pipeline.system.files import write_atomically
from pipeline.system.json_shape import DictOf, Nullable

STOP_FILE = ".over"  # workers that see it start no further trial
REFUSAL_FILE = ".refusal"  # what is wrong with every trial, whatever its values
MISTAKE_FILE = "mistake"  # of a trial: what is wrong with its values
FAILURE_FILE = "failure"  # of a trial: why it broke down
UNCLAIMED_SECONDS = 5.0

FINISHED, PRUNED, DIVERGED = "FINISHED", "PRUNED", "DIVERGED"
TRIAL_RESULT = RunFile(
    "outcome.json",
    "the result of the trial is lost",
    "the search tries it again",
    {
        "state": re.compile(f"{FINISHED}|{PRUNED}|{DIVERGED}"),
        "scores": DictOf(float),
        "seconds": float,
        "reason": Nullable(str),
        "judged": Nullable({}),
    },
)


def create_search_directory(folder: Path) -> None:
    try:
        (folder / TRIALS_FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise RunError(
            f"cannot write {folder}: {problem.strerror}; choose another place with runs_dir=PATH"
        ) from problem


@contextmanager
def lock_search(folder: Path) -> Iterator[None]:
    """Hold the search's lock: nobody else starts, changes or runs it meanwhile. Raises RunError where it is held."""
    create_search_directory(folder)
    with try_lock_folder(folder, "search") as is_locked:
        if not is_locked:
            raise RunError(f"the search {folder.name} is under way already; another one needs another name=")
        yield


def reopen_search(folder: Path) -> None:
    """Remove the stop files of an earlier session: its time was up, or a refusal that may have been mended since."""
    for name in (STOP_FILE, REFUSAL_FILE):
        (folder / name).unlink(missing_ok=True)


def is_search_stopped(folder: Path) -> bool:
    return (folder / STOP_FILE).exists() or not folder.exists()


# One trial: its directory, and what its processes leave in it.


def create_trial_run(
    folder: Path, number: int, plan: Plan, params: Params, config: DictConfig, environment: dict[str, Any]
) -> Run:
    """Create a trial's run directory, with its frozen configuration, as `train` would."""
    run = Run(trial_directory(folder, number))
    run.folder.mkdir(exist_ok=True)
    run.write_config(compose.to_yaml(config), [*plan.fixed, *plan.space.overrides(params)])
    run.write_json("environment.json", {**environment, "choices": plan.compose_options(params).choices})
    return run


def write_trial_result(
    folder: Path,
    state: str,
    scores: dict[str, float],
    *,
    seconds: float,
    reason: str | None,
    split_scores: dict[str, Any] | None = None,
) -> None:
    """Write the result of a trial: the `seconds` of training, and the `reason` why it was pruned or diverged."""
    content = {"state": state, "scores": scores, "seconds": round(seconds, 3), "reason": reason, "judged": split_scores}
    write_atomically(folder / TRIAL_RESULT.name, json.dumps(content, indent=2) + "\n")


def read_trial_result(folder: Path) -> dict[str, Any] | None:
    """Return the result of a trial; None if it did not end, or its result is damaged."""
    try:
        return TRIAL_RESULT.record(folder)
    except DamagedFileError:
        return None


def violated_constraint(constraints: dict[str, dict[str, float]], scores: dict[str, float]) -> str | None:
    """Describe the first constraint that these scores violate."""
    for metric, bounds in constraints.items():
        for bound, limit in bounds.items():
            if metric in scores and constraint_violation(bound, limit, scores[metric]) > 0:
                return f"{metric} {scores[metric]:g}, beyond search.constraints.{metric}.{bound}={limit:g}"
    return None


def constraint_violation(bound: str, limit: float, value: float) -> float:
    """Return by how much a value is beyond its bound ("min" or "max"); 0 or less within it."""
    return value - limit if bound == "max" else limit - value


def finalize_trial(study: Study, plan: Plan, trial: FrozenTrial, folder: Path, problem: str | None) -> None:
    """Record in the study how a trial ended whose processes are gone: as its directory says, else with `problem`."""
    path = trial_directory(folder, trial.number)
    result = read_trial_result(path)
    if result is None:
        mistake = _read_text(path / MISTAKE_FILE)
        if mistake is not None:  # a second attempt would fail in the same way
            studies.mark_failed(study, trial, mistake, again=False)
        else:
            reason = _read_text(path / FAILURE_FILE) or problem or "its process disappeared"
            studies.mark_failed(study, trial, reason, again=True)
        return
    scores = result["scores"]
    for metric, bounds in plan.constraints.items():
        for bound, limit in bounds.items():
            if metric in scores:
                set_constraint(study, trial, f"{metric} {bound}", constraint_violation(bound, limit, scores[metric]))
    if result.get("judged") is not None:
        set_user_attr(study, trial, studies.SPLIT_SCORES, result["judged"])
    if result["state"] == FINISHED:
        study.tell(trial.number, [scores[name] for name in plan.objectives], skip_if_finished=True)
        return
    if result["reason"] is not None:
        set_user_attr(study, trial, studies.REASON, result["reason"])
    study.tell(trial.number, state=TrialState.PRUNED, skip_if_finished=True)


def check_trial_failures(plan: Plan, folder: Path, trials: Sequence[FrozenTrial]) -> None:
    """Raise ConfigError for a mistake that all trials share, TrainingFailed where the search should end otherwise."""
    if (refusal := _read_text(folder / REFUSAL_FILE)) is not None:
        raise ConfigError(refusal)
    if (common := studies.common_failure(trials)) is not None:
        path = trial_directory(folder, common.number)
        sentence = f"all trials so far failed for one reason, and others would: {common.user_attrs.get(studies.REASON)}"
        if (path / MISTAKE_FILE).exists():
            raise ConfigError(sentence)
        raise TrainingFailed(f"{sentence}\n  its output: {path / 'run.log'}")
    failed, limit = studies.failed_trials(trials), int(plan.settings.max_failures)
    if len(failed) > limit:
        newest = failed[-1]
        raise TrainingFailed(
            f"{len(failed)} trials broke down, more than search.max_failures={limit}; the newest, trial "
            f"{newest.number}: {newest.user_attrs.get(studies.REASON)}\n  its output: "
            f"{trial_directory(folder, newest.number) / 'run.log'}"
        )


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


# Trials whose worker died.


def worker_identity(name: str) -> dict[str, Any]:
    """Identify this process by more than its number, which another process may get later."""
    return {"name": name, "host": socket.gethostname(), "pid": os.getpid(), "born": psutil.Process().create_time()}


def is_alive_here(worker: dict[str, Any] | None) -> bool:
    """Return whether this worker runs on this machine."""
    if worker is None or worker["host"] != socket.gethostname():
        return False
    try:
        return bool(psutil.Process(worker["pid"]).create_time() == worker["born"])
    except psutil.Error:
        return False


def recover_trials(study: Study, plan: Plan, folder: Path) -> None:
    """Finalize the trials whose worker is gone, unless another process is doing so."""

    def orphaned() -> list[FrozenTrial]:
        running = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.RUNNING]
        return [trial for trial in running if not _is_unclaimed(trial) and _is_worker_dead(trial, study, folder)]

    if not orphaned():
        return
    with try_lock_study(study, folder, "recovery") as is_locked:
        for trial in orphaned() if is_locked else ():  # asked again: another process may have finalized them
            finalize_trial(study, plan, trial, folder, "its worker was killed")


def _is_worker_dead(trial: FrozenTrial, study: Study, folder: Path) -> bool:
    worker = trial.user_attrs.get(studies.WORKER)
    if worker is None or worker["host"] == socket.gethostname():
        return not is_alive_here(worker)
    return is_stale(study, folder, trial)


def _is_unclaimed(trial: FrozenTrial) -> bool:
    """Return whether a worker asked for it just now and has not written its name yet."""
    start = trial.datetime_start
    age = math.inf if start is None else (datetime.now() - start).total_seconds()  # noqa: DTZ005  as Optuna's
    return studies.WORKER not in trial.user_attrs and age < UNCLAIMED_SECONDS
