"""`pipeline search`: begin a search or go on with it, and say what it found."""

import gc
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from rich.console import Console

from pipeline.config import compose
from pipeline.config.names import check_name
from pipeline.errors import DONE, FAILED, INTERRUPTED, ConfigError, RunError
from pipeline.files import locked, write_atomically
from pipeline.search import plan as plans
from pipeline.search.plan import CHANGEABLE, Plan

BEST = "best.yaml"


def search(typed: Sequence[str]) -> int:
    """Its exit code. Raises UserError for whatever can be found wrong before the first trial."""
    gc.disable()  # as for `train`: many small objects and hardly a cycle among them
    try:
        plan, folder, is_new = _plan(typed)
    finally:
        gc.enable()
    # Optuna is imported only for what has been found right.
    from pipeline.search import folder as folders

    if is_new:
        folders.make(folder, plan)
    else:
        plan.save(folder)
    try:
        with locked(folder / folders.LOCK, timeout_seconds=0):
            return _run(plan, folder)
    except TimeoutError:
        raise RunError(f"the search {folder.name} is under way already; another one needs another name=") from None


def _run(plan: Plan, folder: Path) -> int:
    import optuna

    from pipeline.search import final, study
    from pipeline.search import folder as folders
    from pipeline.search.display import Display, best_of
    from pipeline.search.driver import Driver
    from pipeline.search.recording import Recording

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    console = Console(highlight=False, soft_wrap=True)
    found = study.create(plan, folder)
    wanted = study.total(plan)
    console.print(f"search      {folder}\nsearched    {', '.join(plan.space.dimensions)}; {wanted} trials")
    for key in plan.outside():
        console.print(f"[yellow]the default of {key} is not among its values; trial 0 takes the first[/]")
    recording = Recording(plan, folder)
    recording.begin(found.get_trials(deepcopy=False))
    with Display(plan, wanted, console) as display:

        def show(trials: "list[optuna.trial.FrozenTrial]") -> None:
            display.show(trials)
            recording.note(trials)

        driver = Driver(plan, folder, found, show)
        try:
            driver.run()
        except BaseException:
            recording.conclude(None, [], None, "FAILED")
            raise
    trials = found.get_trials(deepcopy=False)
    done = sum(trial.state in study.DONE for trial in trials)
    best = best_of(trials, plan)
    if best is None:
        recording.conclude(None, [], None, "KILLED")
        console.print(f"{done} of {wanted} trials, and none of them finished")
        return INTERRUPTED if driver.is_stopped else FAILED
    _tell_best(plan, folder, study.best(found), console)
    sentence = None
    if done >= wanted and plan.settings.final_seeds > 0:
        comparison = final.judge(plan, folder, dict(best.params), lambda line: console.print(line))
        sentence = None if comparison is None else comparison.sentence
        if sentence is not None:
            console.print(f"test set    {sentence}")
    files = [name for name in (BEST, final.FINAL) if (folder / name).exists()]
    recording.conclude(best, files, sentence, "KILLED" if driver.is_stopped else "FINISHED")
    recording.close()
    if done < wanted:
        failed = f"{len(study.failures(trials))} failed"
        why = "stopped" if driver.is_stopped else "the time is up" if folders.is_over(folder) else failed
        console.print(f"{why} after {done} of {wanted} trials; to go on: pipeline search name={folder.name}")
        return INTERRUPTED if driver.is_stopped else DONE
    words = folders.command_of(plan, dict(best.params))
    console.print(f"again       {shlex.join(words)}")
    return DONE


def _tell_best(plan: Plan, folder: Path, best: list, console: Console) -> None:  # type: ignore[type-arg]
    from pipeline.search import folder as folders

    for trial in best:
        scores = ", ".join(f"{name} {value:.4f}" for name, value in zip(plan.objectives, trial.values, strict=True))
        values = " ".join(plan.space.overrides(trial.params))
        console.print(f"best        trial {trial.number}: {scores}  {values}".replace("[", r"\["))
    recipe = folders.recipe_of(plan, dict(best[0].params))
    write_atomically(folder / BEST, recipe)
    console.print(f"as a recipe {folder / BEST}")


def _plan(typed: Sequence[str]) -> tuple[Plan, Path, bool]:
    """(plan, folder, whether it is new)"""
    named = dict(word.split("=", 1) for word in typed if "=" in word)
    runs_dir, name = named.get("runs_dir", "runs"), named.get("name")
    place = Path(runs_dir).absolute() / "searches"
    if name is not None and (place / name / plans.CONFIG).exists():
        return _continued(typed, place / name), place / name, False
    plan = plans.make(typed)
    if name is None:
        name = f"{plan.config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    check_name(name)
    return plan, Path(plan.config.runs_dir).absolute() / "searches" / name, True


def _continued(typed: Sequence[str], folder: Path) -> Plan:
    """The search in this folder, with what may be changed of it as typed. Raises ConfigError for anything else."""
    plan = plans.load(folder)
    parser = OverridesParser.create()
    for word in typed:
        key, _, value = word.partition("=")
        if key in ("name", "runs_dir"):
            continue
        setting = key.removeprefix("search.")
        if key.startswith("search.") and setting in CHANGEABLE:
            compose.update(plan.config, key, value)
            continue
        if word in plan.fixed or _is_as_before(plan, key, value):
            continue
        override = parser.parse_override(word)
        raise ConfigError(
            f"{override.input_line}: the search {folder.name} has begun without it. Of a search that goes on may be "
            f"changed: {', '.join(f'search.{each}' for each in CHANGEABLE)}; for another one choose another name="
        )
    return plan


def _is_as_before(plan: Plan, key: str, value: str) -> bool:
    known = OmegaConf.select(plan.config, key) if not key.startswith(("search/", "~", "+")) else None
    return plan.settings.space.get(key) == value or (known is not None and str(known) == value)
