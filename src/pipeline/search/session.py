"""One session of a search: from starting its workers to its results. A search may have several, one after another.

On a cluster, the jobs of an array (`python -m pipeline.search.session FOLDER`) are sessions side by side, each with one
worker; nobody has to wait for them.
"""

import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial
from rich.console import Console
from rich.markup import escape

from pipeline.config import instantiate
from pipeline.config.frozen import TrustPolicy
from pipeline.errors import DONE, FAILED, INTERRUPTED, PREEMPTED, RunError, TrainingFailed
from pipeline.lifecycle.exit_codes import DISK_FULL, find_os_error
from pipeline.search.directory import is_search_stopped, reopen_search
from pipeline.search.display import SearchDisplay
from pipeline.search.plan import Plan, load_plan
from pipeline.search.recipe import format_recipe, save_recipe, trial_command
from pipeline.search.results import final_evaluation
from pipeline.search.results.cross_validation import (
    best_params,
    cross_validation_scores,
    format_scores_by_configuration,
)
from pipeline.search.search_recorder import SearchRecorder
from pipeline.search.storage import StudyLost, with_retry
from pipeline.search.study import DONE_STATES, best_trial, best_trials, create_study, failed_trials, total_trials
from pipeline.search.supervisor import Supervisor
from pipeline.system.files import write_atomically
from pipeline.system.process import add_working_directory_to_path, leave_slurm_array, module_command

BEST_RECIPE = "best.yaml"


def run_search(plan: Plan, folder: Path) -> int:
    """Run a search with all its workers until it has its trials, its time is up, or Ctrl-C; return the exit code."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plan.save(folder)
    reopen_search(folder)
    return join_search(plan, folder, range(int(plan.settings.workers)))


def submit_job_array(plan: Plan, folder: Path) -> int:
    """Submit a job for each worker; return the exit code. Raises RunError while earlier jobs are under way."""
    launcher: Any = instantiate.instantiate(plan.config.launch, plan.config)
    state = launcher.state(folder)
    if state is not None:
        raise RunError(f"the search {folder.name} is under way already ({state}); another one needs another name=")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plan.save(folder)
    reopen_search(folder)
    create_study(plan, folder)
    command = module_command("pipeline.search.session", str(folder), *plan.trust.arguments(folder))
    return int(launcher.run_workers(command, int(plan.settings.workers), folder))


def main(folder: Path, trust: TrustPolicy) -> int:
    """Run one job of an array."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    add_working_directory_to_path()
    return join_search(load_plan(folder, trust), folder, [leave_slurm_array()])


def join_search(plan: Plan, folder: Path, worker_numbers: Sequence[int]) -> int:
    """Run these workers, and write the results if no other session of the search does; return the exit code."""
    console = Console(highlight=False, soft_wrap=True)
    study = create_study(plan, folder)
    console.print(f"search      {folder}\nsearched    {', '.join(plan.space.dimensions)}; {total_trials(plan)} trials")
    for key in plan.keys_without_default():
        console.print(f"[yellow]the default of {key} is not among its values; trial 0 takes the first[/]")
    recorder = SearchRecorder(plan, folder, study)
    session = _Session(plan, folder, study, recorder, console)
    try:
        stopped_by = session.run_workers(worker_numbers)
        if stopped_by == signal.SIGUSR1:
            return PREEMPTED
        if not recorder.writes_results():
            console.print("another process leads this search; it writes the results")
            return DONE
        return session.conclude(is_stopped=stopped_by != 0)
    finally:
        recorder.close()


@dataclass(frozen=True)
class _Session:
    """What the steps of a session share."""

    plan: Plan
    folder: Path
    study: Study
    recorder: SearchRecorder
    console: Console

    def run_workers(self, worker_numbers: Sequence[int]) -> int:
        """Return the signal that stopped them, or 0."""
        with SearchDisplay(self.plan, total_trials(self.plan), self.console) as display:

            def on_update(trials: list[FrozenTrial]) -> None:
                display.show(trials)
                self.recorder.record_best(trials)

            supervisor = Supervisor(self.plan, self.folder, self.study, on_update, worker_numbers)
            try:
                supervisor.run()
            except BaseException as problem:
                files = [] if isinstance(problem, StudyLost) else self.publish()
                self.recorder.conclude(None, files, None, "FAILED")
                if find_os_error(problem, DISK_FULL) is None:
                    raise
                raise TrainingFailed(
                    f"the disk of {self.folder} is full; finished trials are safe. When there is room: "
                    f"pipeline search name={self.folder.name}"
                ) from problem
        return supervisor.stopped_by

    def conclude(self, *, is_stopped: bool) -> int:
        """Write and print the results; return the exit code."""
        plan, folder, console = self.plan, self.folder, self.console
        trials, total = with_retry(lambda: self.study.get_trials(deepcopy=False)), total_trials(plan)
        done = sum(trial.state in DONE_STATES for trial in trials)
        best = best_trial(trials, plan)
        if best is None:
            self.recorder.conclude(None, self.publish(), None, "KILLED")
            within = " within search.constraints" if plan.constraints else ""
            console.print(f"{done} of {total} trials, and none of them finished{within}")
            return INTERRUPTED if is_stopped else FAILED
        params = best_params(trials, plan, best)
        if plan.repeats is None:
            self._print_best()
        for line in format_scores_by_configuration(cross_validation_scores(trials, plan), plan):
            console.print(escape(f"estimate    {line}"))
        self._save_recipes(best, params)
        comparison = None if done < total else self._evaluate_best(params)
        files = [name for name in (BEST_RECIPE, final_evaluation.FINAL) if (folder / name).exists()]
        files += self.publish()
        self.recorder.conclude(best, files, comparison, "KILLED" if is_stopped else "FINISHED")
        self.recorder.mark_results(done)
        if done < total:
            failed = f"{len(failed_trials(trials))} failed"
            why = "stopped" if is_stopped else "the time is up" if is_search_stopped(folder) else failed
            console.print(f"{why} after {done} of {total} trials; to go on: pipeline search name={folder.name}")
            return INTERRUPTED if is_stopped else DONE
        console.print(escape(f"again       {shlex.join(trial_command(plan, params))}"))
        return DONE

    def publish(self) -> list[str]:
        """Make pictures and report, as far as possible; return their names."""
        from pipeline.search.results import publish

        def warn(sentence: str) -> None:
            self.console.print(f"[yellow]{escape(sentence)}[/]")

        files = publish.write_search_outputs(self.plan, self.folder, self.study, warn, is_under_way=False)
        if publish.REPORT in files:
            self.console.print(f"report      {self.folder / publish.REPORT}")
        return files

    def _print_best(self) -> None:
        for trial in best_trials(self.study):
            values = " ".join(self.plan.space.overrides(trial.params))
            scores = self.plan.format_scores(trial.values)
            self.console.print(escape(f"best        trial {trial.number}: {scores}  {values}"))

    def _save_recipes(self, best: FrozenTrial, params: dict[str, Any]) -> None:
        path = self.folder / BEST_RECIPE
        write_atomically(path, format_recipe(self.plan, params))
        remark = f"trial {best.number}, {self.plan.format_scores(best.values)}"
        saved = save_recipe(self.plan, params, remark, self.folder.name)
        self.console.print(f"as a recipe {path}" if saved is None else f"as a recipe {saved}: experiment={saved.stem}")

    def _evaluate_best(self, params: dict[str, Any]) -> str | None:
        """Train and test the best and the default configuration; return how they compare."""
        if self.plan.settings.final_seeds == 0:
            return None
        comparison = final_evaluation.run_final_evaluation(self.plan, self.folder, params, self.console.print)
        if comparison is None:
            return None
        self.console.print(f"test set    {comparison.sentence}")
        return comparison.sentence


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), TrustPolicy.from_arguments(sys.argv[2:])))
