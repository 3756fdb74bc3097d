"""One sitting of a search: from the first worker to what was found. The same search may have several."""

import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial
from rich.console import Console
from rich.markup import escape

from pipeline.errors import DONE, FAILED, INTERRUPTED, PREEMPTED, TrainingFailed
from pipeline.lifecycle.exit_codes import DISK_FULL, find_os_error
from pipeline.search import directory as folders
from pipeline.search import recipe
from pipeline.search import study as studies
from pipeline.search.display import Display, best_of
from pipeline.search.plan import Plan
from pipeline.search.results import final_evaluation
from pipeline.search.results.cross_validation import chosen, estimates_of, told
from pipeline.search.search_recorder import Recording
from pipeline.search.storage import StudyLost, patiently
from pipeline.search.supervisor import Driver
from pipeline.system.files import write_atomically

BEST = "best.yaml"


def sit(plan: Plan, folder: Path) -> int:
    """Lead a search until it has its trials, its time is up, or Ctrl-C; the exit code."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plan.save(folder)
    folders.open_again(folder)
    return attend(plan, folder, range(int(plan.settings.workers)))


def attend(plan: Plan, folder: Path, names: Sequence[int]) -> int:
    """As `sit`, of several that work on the same search: these workers, and what only one does while it is its turn."""
    console = Console(highlight=False, soft_wrap=True)
    study = studies.create(plan, folder)
    wanted = studies.total(plan)
    console.print(f"search      {folder}\nsearched    {', '.join(plan.space.dimensions)}; {wanted} trials")
    for key in plan.outside():
        console.print(f"[yellow]the default of {key} is not among its values; trial 0 takes the first[/]")
    recording = Recording(plan, folder, study)
    try:
        stopped_by = _drive(plan, folder, study, recording, console, names)
        if stopped_by == signal.SIGUSR1:
            return PREEMPTED
        if not recording.concludes():
            console.print("the rest is done where the search is led from")
            return DONE
        return _conclude(plan, folder, study, recording, console, is_stopped=stopped_by != 0)
    finally:
        recording.close()


def _conclude(
    plan: Plan, folder: Path, study: Study, recording: Recording, console: Console, *, is_stopped: bool
) -> int:
    trials, wanted = patiently(lambda: study.get_trials(deepcopy=False)), studies.total(plan)
    done = sum(trial.state in studies.DONE for trial in trials)
    best = best_of(trials, plan)
    if best is None:
        recording.conclude(None, _shown(plan, folder, study, console), None, "KILLED")
        fitting = " within search.constraints" if plan.constraints else ""
        console.print(f"{done} of {wanted} trials, and none of them finished{fitting}")
        return INTERRUPTED if is_stopped else FAILED
    params = chosen(trials, plan, best)
    if plan.repeats is None:
        _tell_best(plan, studies.best(study), console)
    for line in told(estimates_of(trials, plan), plan):
        console.print(f"estimate    {line}".replace("[", r"\["))
    _save(plan, folder, best, params, console)
    sentence = None if done < wanted else _judged(plan, folder, params, console)
    files = [name for name in (BEST, final_evaluation.FINAL) if (folder / name).exists()]
    files += _shown(plan, folder, study, console)
    recording.conclude(best, files, sentence, "KILLED" if is_stopped else "FINISHED")
    if done < wanted:
        failed = f"{len(studies.failures(trials))} failed"
        why = "stopped" if is_stopped else "the time is up" if folders.is_over(folder) else failed
        console.print(f"{why} after {done} of {wanted} trials; to go on: pipeline search name={folder.name}")
        return INTERRUPTED if is_stopped else DONE
    console.print(escape(f"again       {shlex.join(recipe.command_of(plan, params))}"))
    return DONE


def _drive(plan: Plan, folder: Path, study: Study, recording: Recording, console: Console, names: Sequence[int]) -> int:
    """The signal that stopped it, or 0."""
    with Display(plan, studies.total(plan), console) as display:

        def show(trials: list[FrozenTrial]) -> None:
            display.show(trials)
            recording.note(trials)

        driver = Driver(plan, folder, study, show, names)
        try:
            driver.run()
        except BaseException as problem:
            shown = [] if isinstance(problem, StudyLost) else _shown(plan, folder, study, console)
            recording.conclude(None, shown, None, "FAILED")
            if find_os_error(problem, DISK_FULL) is None:
                raise
            raise TrainingFailed(
                f"the disk of {folder} is full; what was finished stands. When there is room: "
                f"pipeline search name={folder.name}"
            ) from problem
    return driver.stopped_by


def _shown(plan: Plan, folder: Path, study: Study, console: Console) -> list[str]:
    """Pictures and report, as far as they can be made; which."""
    from pipeline.search.results import publish

    def warn(sentence: str) -> None:
        console.print(f"[yellow]{escape(sentence)}[/]")

    made = publish.publish(plan, folder, study, warn, is_under_way=False)
    if publish.REPORT in made:
        console.print(f"report      {folder / publish.REPORT}")
    return made


def _judged(plan: Plan, folder: Path, params: dict[str, Any], console: Console) -> str | None:
    if plan.settings.final_seeds == 0:
        return None
    comparison = final_evaluation.judge(plan, folder, params, lambda line: console.print(line))
    if comparison is None:
        return None
    console.print(f"test set    {comparison.sentence}")
    return comparison.sentence


def _tell_best(plan: Plan, front: list[FrozenTrial], console: Console) -> None:
    for trial in front:
        scores = ", ".join(f"{name} {value:.4f}" for name, value in zip(plan.objectives, trial.values, strict=True))
        values = " ".join(plan.space.overrides(trial.params))
        console.print(f"best        trial {trial.number}: {scores}  {values}".replace("[", r"\["))


def _save(plan: Plan, folder: Path, best: FrozenTrial, params: dict[str, Any], console: Console) -> None:
    scores = ", ".join(f"{name} {value:.4f}" for name, value in zip(plan.objectives, best.values, strict=True))
    write_atomically(folder / BEST, recipe.recipe_of(plan, params))
    saved = recipe.save(plan, params, f"trial {best.number}, {scores}", folder.name)
    console.print(f"as a recipe {folder / BEST}" if saved is None else f"as a recipe {saved}: experiment={saved.stem}")
