"""The directory of a search: `runs/searches/NAME`, with a directory for each trial in it."""

import math
import os
import socket
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from omegaconf import OmegaConf
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.config import compose
from pipeline.errors import RunError
from pipeline.files import write_atomically
from pipeline.lifecycle.run import Run
from pipeline.search import outcome as outcomes
from pipeline.search import plan as plans
from pipeline.search import study as studies
from pipeline.search.plan import Plan
from pipeline.search.space import Picked

TRIALS = "trials"
LOCK = ".search.lock"  # held by the driver
OVER = ".over"  # workers that find it begin no further trial
MISTAKE = "mistake"
UNCLAIMED_SECONDS = 5.0


def make(folder: Path) -> None:
    try:
        (folder / TRIALS).mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise RunError(
            f"cannot write {folder}: {problem.strerror}; choose another place with runs_dir=PATH"
        ) from problem


def is_over(folder: Path) -> bool:
    return (folder / OVER).exists() or not folder.exists()


def trial_run(folder: Path, number: int, plan: Plan, picked: Picked, facts: dict[str, Any]) -> Run:
    """The trial's own run directory, with its frozen configuration: a run that `train` could have made."""
    run = Run(folder / TRIALS / f"{number:04}")
    run.folder.mkdir(exist_ok=True)
    write_atomically(run.config_path, compose.to_yaml(plan.config_of(picked)))
    overrides = [*plan.fixed, *plan.space.overrides(picked)]
    write_atomically(run.folder / plans.FIXED, "".join(f"{override}\n" for override in overrides))
    run.write_json("environment.json", {**facts, "choices": plan.composed(picked).choices})
    return run


def settle(study: Study, plan: Plan, trial: FrozenTrial, folder: Path, problem: str | None) -> None:
    """Tell the study what became of a trial whose processes have ended: what its directory says, else `problem`."""
    run = Run(folder / TRIALS / f"{trial.number:04}")
    outcome = outcomes.read(run.folder)
    if outcome is None:
        mistake = run.folder / MISTAKE
        if mistake.exists():  # it would be the same the next time
            studies.give_up(study, trial, mistake.read_text(encoding="utf-8"), again=False)
        else:
            studies.give_up(study, trial, problem or "its process disappeared", again=True)
        return
    storage, scores = study._storage, outcome["scores"]
    if outcome["state"] == outcomes.FINISHED:
        values = [scores[name] for name in plan.objectives]
        study.tell(trial.number, values, skip_if_finished=True)
        return
    if outcome["reason"] is not None:
        storage.set_trial_user_attr(trial._trial_id, studies.REASON, outcome["reason"])
    study.tell(trial.number, state=TrialState.PRUNED, skip_if_finished=True)


def note_mistake(run: Run, sentence: str) -> None:
    write_atomically(run.folder / MISTAKE, sentence)


def identity(name: str) -> dict[str, Any]:
    """Of this process, such that it is never taken for another one that has its number."""
    return {"name": name, "host": socket.gethostname(), "pid": os.getpid(), "born": psutil.Process().create_time()}


def is_alive(worker: dict[str, Any] | None) -> bool:
    """Whether this worker runs on this machine; one of another machine is believed to."""
    if worker is None:
        return False
    if worker["host"] != socket.gethostname():
        return True
    try:
        return bool(psutil.Process(worker["pid"]).create_time() == worker["born"])
    except psutil.Error:
        return False


def recover(study: Study, plan: Plan, folder: Path) -> int:
    """Settle the trials whose worker is gone; how many there were. To be called by the driver alone."""
    running = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.RUNNING]
    dead = [trial for trial in running if not (_is_new(trial) or is_alive(trial.user_attrs.get(studies.WORKER)))]
    for trial in dead:
        settle(study, plan, trial, folder, "its worker was killed")
    return len(dead)


def _is_new(trial: FrozenTrial) -> bool:
    """It was asked for just now, and its worker has not said yet whose it is."""
    began = trial.datetime_start
    age = math.inf if began is None else (datetime.now() - began).total_seconds()  # noqa: DTZ005  as Optuna's
    return studies.WORKER not in trial.user_attrs and age < UNCLAIMED_SECONDS


def command_of(plan: Plan, params: dict[str, Any]) -> list[str]:
    return ["pipeline", "train", *plan.fixed, *plan.space.overrides(params)]


def recipe_of(plan: Plan, params: dict[str, Any]) -> str:
    """YAML for conf/experiment: the same as the command."""
    composed = plan.composed(params)
    groups = [key for key in params if key in composed.choices]
    lines = ["# @package _global_"]
    if groups:
        lines += ["defaults:", *(f"  - override /{group}: {composed.choices[group]}" for group in groups)]
    values: Any = OmegaConf.create({})
    config = plan.config_of(params)
    for key in params:
        if key not in groups:
            OmegaConf.update(values, key, OmegaConf.select(config, key), force_add=True)
    return "\n".join(lines) + "\n" + (OmegaConf.to_yaml(values) if values else "")
