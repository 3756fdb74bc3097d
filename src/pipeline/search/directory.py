"""The directory of a search: `runs/searches/NAME`, with a directory for each trial in it."""

import json
import math
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from omegaconf import DictConfig
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.config import compose
from pipeline.config.suggestions import did_you_mean, listing, nearest_names
from pipeline.errors import ConfigError, RunError, TrainingFailed
from pipeline.run_files import DamagedFileError, RunFile
from pipeline.runs.run_directory import Run
from pipeline.search import storage
from pipeline.search import study as studies
from pipeline.search.optuna_private import set_constraint, set_user_attr
from pipeline.search.plan import CONFIG, SEARCHES, Plan
from pipeline.search.space import Picked
from pipeline.search.storage import TRIALS
from pipeline.system.files import write_atomically
from pipeline.system.json_shape import DictOf, Nullable
from pipeline.tracking.sync_state import JOURNAL

FILE = RunFile(
    "outcome.json",
    "what became of the trial is lost",
    "the search tries it again",
    {
        "state": re.compile("FINISHED|PRUNED|DIVERGED"),
        "scores": DictOf(float),
        "seconds": float,
        "reason": Nullable(str),
        "judged": Nullable({}),
    },
)
OUTCOME = FILE.name
FINISHED, PRUNED, DIVERGED = "FINISHED", "PRUNED", "DIVERGED"


def write(
    folder: Path,
    state: str,
    scores: dict[str, float],
    *,
    seconds: float,
    reason: str | None,
    judged: dict[str, Any] | None = None,
) -> None:
    """`seconds` of training; `reason` why the loss was no number, else None; `judged`: see Judgement."""
    content = {"state": state, "scores": scores, "seconds": round(seconds, 3), "reason": reason, "judged": judged}
    write_atomically(folder / OUTCOME, json.dumps(content, indent=2) + "\n")


def read(folder: Path) -> dict[str, Any] | None:
    """None if the trial did not come to its end, or its outcome is damaged: it did not, then."""
    try:
        return FILE.record(folder)
    except DamagedFileError:
        return None


def broken(constraints: dict[str, dict[str, float]], scores: dict[str, float]) -> str | None:
    """The first constraint that these scores do not keep."""
    for metric, bounds in constraints.items():
        for bound, limit in bounds.items():
            if metric in scores and excess(bound, limit, scores[metric]) > 0:
                return f"{metric} {scores[metric]:g}, beyond search.constraints.{metric}.{bound}={limit:g}"
    return None


def excess(bound: str, limit: float, value: float) -> float:
    """By how much a value is beyond its bound ("min" or "max"); 0 or less where it keeps it."""
    return value - limit if bound == "max" else limit - value


LEADING = "search"  # what the lock of a search is held for
OVER = ".over"  # workers that find it begin no further trial
MISTAKE = "mistake"  # in a trial's directory: what was wrong with its values
FAILURE = "failure"  # the same of one that broke down
REFUSAL = ".refusal"  # in the search's: what is wrong with every trial
UNCLAIMED_SECONDS = 5.0


def make(folder: Path) -> None:
    try:
        (folder / TRIALS).mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise RunError(
            f"cannot write {folder}: {problem.strerror}; choose another place with runs_dir=PATH"
        ) from problem


@contextmanager
def led(folder: Path) -> Iterator[None]:
    """Nobody else begins, changes or leads this search meanwhile. Raises RunError where somebody does."""
    make(folder)
    with storage.held_in(folder, LEADING) as alone:
        if not alone:
            raise RunError(f"the search {folder.name} is under way already; another one needs another name=")
        yield


def open_again(folder: Path) -> None:
    """After a time that was up, or a refusal that may have been mended since."""
    for name in (OVER, REFUSAL):
        (folder / name).unlink(missing_ok=True)


def is_over(folder: Path) -> bool:
    return (folder / OVER).exists() or not folder.exists()


def trial_run(folder: Path, number: int, plan: Plan, picked: Picked, config: DictConfig, facts: dict[str, Any]) -> Run:
    """The trial's own run directory, with its frozen configuration: a run that `train` could have made."""
    run = Run(folder / TRIALS / f"{number:04}")
    run.folder.mkdir(exist_ok=True)
    run.write_config(compose.to_yaml(config), [*plan.fixed, *plan.space.overrides(picked)])
    run.write_json("environment.json", {**facts, "choices": plan.composed(picked).choices})
    return run


def settle(study: Study, plan: Plan, trial: FrozenTrial, folder: Path, problem: str | None) -> None:
    """Tell the study what became of a trial whose processes have ended: what its directory says, else `problem`."""
    run = Run(folder / TRIALS / f"{trial.number:04}")
    outcome = read(run.folder)
    if outcome is None:
        mistake = run.folder / MISTAKE
        if mistake.exists():  # it would be the same the next time
            studies.give_up(study, trial, mistake.read_text(encoding="utf-8"), again=False)
        else:
            reason = _text(run.folder / FAILURE) or problem or "its process disappeared"
            studies.give_up(study, trial, reason, again=True)
        return
    scores = outcome["scores"]
    for metric, bounds in plan.constraints.items():
        for bound, limit in bounds.items():
            if metric in scores:
                set_constraint(study, trial, f"{metric} {bound}", excess(bound, limit, scores[metric]))
    if outcome.get("judged") is not None:
        set_user_attr(study, trial, studies.JUDGED, outcome["judged"])
    if outcome["state"] == FINISHED:
        values = [scores[name] for name in plan.objectives]
        study.tell(trial.number, values, skip_if_finished=True)
        return
    if outcome["reason"] is not None:
        set_user_attr(study, trial, studies.REASON, outcome["reason"])
    study.tell(trial.number, state=TrialState.PRUNED, skip_if_finished=True)


def note_mistake(run: Run, sentence: str) -> None:
    write_atomically(run.folder / MISTAKE, sentence)


def is_mistake(trial_folder: Path) -> bool:
    return (trial_folder / MISTAKE).exists()


def note_failure(run: Run, sentence: str) -> None:
    with suppress(OSError):  # the disk may be what is wrong
        write_atomically(run.folder / FAILURE, sentence)


def refuse(folder: Path, sentence: str) -> None:
    """Whatever the values: no trial can do what is asked."""
    write_atomically(folder / REFUSAL, sentence)


def refusal(folder: Path) -> str | None:
    return _text(folder / REFUSAL)


def check_failures(plan: Plan, folder: Path, trials: Sequence[FrozenTrial]) -> None:
    """Raises ConfigError for a mistake that all trials share, TrainingFailed for other reasons to give up."""
    if (told := refusal(folder)) is not None:
        raise ConfigError(told)
    if (shared := studies.shared_failure(trials)) is not None:
        output = folder / TRIALS / f"{shared.number:04}"
        sentence = f"all trials so far failed for one reason, and others would: {shared.user_attrs.get(studies.REASON)}"
        if is_mistake(output):
            raise ConfigError(sentence)
        raise TrainingFailed(f"{sentence}\n  its output: {output / 'run.log'}")
    failed, most = studies.failures(trials), int(plan.settings.max_failures)
    if len(failed) > most:
        newest = failed[-1]
        raise TrainingFailed(
            f"{len(failed)} trials broke down, more than search.max_failures={most}; the newest, trial "
            f"{newest.number}: {newest.user_attrs.get(studies.REASON)}\n  its output: "
            f"{folder / TRIALS / f'{newest.number:04}' / 'run.log'}"
        )


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def identity(name: str) -> dict[str, Any]:
    """Of this process, such that it is never taken for another one that has its number."""
    return {"name": name, "host": socket.gethostname(), "pid": os.getpid(), "born": psutil.Process().create_time()}


def is_here(worker: dict[str, Any] | None) -> bool:
    """Whether this worker runs on this machine."""
    if worker is None or worker["host"] != socket.gethostname():
        return False
    try:
        return bool(psutil.Process(worker["pid"]).create_time() == worker["born"])
    except psutil.Error:
        return False


def recover(study: Study, plan: Plan, folder: Path) -> None:
    """Settle the trials whose worker is gone, unless another process is doing so."""

    def dead() -> list[FrozenTrial]:
        running = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.RUNNING]
        return [trial for trial in running if not _is_new(trial) and _is_gone(trial, study, folder)]

    if not dead():
        return
    with storage.held(study, folder, "recovery") as alone:
        for trial in dead() if alone else ():  # looked for again: whoever was at it before has settled them
            settle(study, plan, trial, folder, "its worker was killed")


def _is_gone(trial: FrozenTrial, study: Study, folder: Path) -> bool:
    worker = trial.user_attrs.get(studies.WORKER)
    if worker is None or worker["host"] == socket.gethostname():
        return not is_here(worker)
    return storage.is_silent(study, folder, trial)


def _is_new(trial: FrozenTrial) -> bool:
    """It was asked for just now, and its worker has not said yet whose it is."""
    began = trial.datetime_start
    age = math.inf if began is None else (datetime.now() - began).total_seconds()  # noqa: DTZ005  as Optuna's
    return studies.WORKER not in trial.user_attrs and age < UNCLAIMED_SECONDS


LATEST = "latest"
PORT = "8080"  # of the dashboard
MOST_NAMED = 10


def searches(runs_dir: str) -> list[Path]:
    """Their directories; first the one in which something happened last."""
    found = [path.parent for path in (Path(runs_dir).absolute() / SEARCHES).glob(f"*/{CONFIG}")]
    return sorted(found, key=touched_at, reverse=True)


def touched_at(folder: Path) -> float:
    """Seconds since 1970."""
    return max(path.stat().st_mtime for path in (folder / CONFIG, folder / JOURNAL) if path.exists())


def find(name: str, runs_dir: str) -> Path:
    """`latest`, a name, or the directory itself. Raises RunError, with the nearest names."""
    known = searches(runs_dir)
    if not known:
        place = Path(runs_dir).absolute() / SEARCHES
        raise RunError(f"there is no search in {place} yet; `pipeline search KEY=VALUE,VALUE name=NAME` begins one")
    by_name = {folder.name: folder for folder in known}
    if name in by_name:
        return by_name[name]
    if name == LATEST:
        return known[0]
    if (Path(name) / CONFIG).exists() and Path(name).absolute().parent.name == SEARCHES:
        return Path(name).absolute()
    near = [f"pipeline search show {each}" for each in nearest_names(name, by_name)]
    listed = list(by_name)[:MOST_NAMED]
    what = "all searches" if len(listed) == len(known) else f"the newest of {len(known)} searches"
    raise RunError(f"there is no search {name} in {known[0].parent}{did_you_mean(near)}{listing(what, listed)}")
