"""`pipeline search show`, `list` and `dashboard`: the state of searches. Free of torch."""

import shlex
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.config.frozen import TrustPolicy
from pipeline.durations import format_age
from pipeline.errors import DONE, ConfigError, RunError
from pipeline.run_files import DamagedFileError
from pipeline.search.optuna_private import study_storage
from pipeline.search.plan import Plan, load_plan
from pipeline.search.recipe import trial_command
from pipeline.search.results import publish
from pipeline.search.results.cross_validation import best_params, format_scores_by_configuration
from pipeline.search.results.search_results import (
    SearchResults,
    format_trial_scores,
    read_search_results,
    trial_seconds,
)
from pipeline.search.searches import last_activity, search_directories
from pipeline.search.storage import STUDY_FILE, check_complete
from pipeline.search.study import STATE_NAMES, open_study
from pipeline.system.streams import print_labelled
from pipeline.tracking import journal
from pipeline.tracking.sync_state import JOURNAL

MAX_TRIALS = 12
MAX_VALUES_LENGTH = 90
HOST = "127.0.0.1"
INSTALL = "pip install optuna-dashboard"


def show_search(folder: Path) -> int:
    """Print the state of a search, and make its pictures and report again, also while it is under way."""
    plan, study = open_search(folder)
    is_under_way = journal.is_open(folder / JOURNAL)
    results = read_search_results(plan, folder, study, is_under_way=is_under_way)
    print("\n".join(f"{label:<12}{text}".rstrip() for label, text in _summary_rows(results)))
    print("\n".join(["", *_trial_lines(results)]))
    files = publish.write_search_outputs(plan, folder, study, _warn, is_under_way=is_under_way)
    if publish.REPORT in files:
        print(f"\nreport      {folder / publish.REPORT}")
    return DONE


def list_searches(runs_dir: str) -> int:
    """Print a row for each search, the newest first."""
    rows = [("search", "state", "trials", "best", "age"), *map(_search_row, search_directories(runs_dir))]
    print("\n".join(align_columns(rows)))
    return DONE


def serve_dashboard(folder: Path, port: int) -> int:
    """Serve Optuna's dashboard, on this machine alone, until Ctrl-C."""
    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise ConfigError(f"optuna-dashboard is not installed; to install it:  {INSTALL}") from None
    _, study = open_search(folder)
    try:
        socket.create_server((HOST, port)).close()
    except (OSError, OverflowError) as problem:
        raise ConfigError(f"port={port} cannot be used ({problem}); choose another one, such as port=8090") from problem
    storage = study_storage(study)
    study_id = storage.get_study_id_from_name(study.study_name)
    print(f"{folder.name}: http://{HOST}:{port}/dashboard/studies/{study_id}", flush=True)
    run_server(storage, host=HOST, port=port)
    return DONE


def open_search(folder: Path) -> tuple[Plan, Study]:
    """Open the plan and the study of a search. Raises RunError for a search without a study."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plan = load_plan(folder, TrustPolicy())
    try:
        if plan.settings.storage is None and not (folder / STUDY_FILE).exists():  # opening it would create it
            raise KeyError(STUDY_FILE)
        return plan, open_study(plan, folder)
    except KeyError:
        check_complete(folder)
        raise RunError(
            f"the search {folder.name} has no trials yet; to begin:  pipeline search name={folder.name}"
        ) from None


def _summary_rows(results: SearchResults) -> list[tuple[str, str]]:
    best, plan = results.best, results.plan
    rows = [("search", str(results.folder)), ("state", f"{results.state}; {results.counts}")]
    rows += [("estimate", line) for line in format_scores_by_configuration(results.estimates, plan)]
    if best is not None:
        scores = ", ".join(
            f"{name} {score}" for name, score in zip(plan.objectives, format_trial_scores(results, best), strict=True)
        )
        rows.append(("best", f"trial {best.number}: {scores}"))
        if len(results.front) > 1:
            rows.append(("", f"one of {len(results.front)} trials that none is better than in each objective"))
        rows.append(("", shlex.join(trial_command(plan, best_params(results.trials, plan, best)))))
    if results.comparison is not None:
        rows.append(("test set", results.comparison.sentence))
    if not results.is_under_way:
        rows.append(("to go on", results.command_to_go_on))
    return rows


def _trial_lines(results: SearchResults) -> list[str]:
    """Return a table of the running trials, and the best of the others."""
    ranked = results.ranked()
    rows = sorted(ranked, key=lambda trial: trial.state != TrialState.RUNNING)[:MAX_TRIALS]
    head = ("trial", "state", *results.plan.objectives, "seconds", "values")
    lines = align_columns([head, *(_trial_cells(results, trial) for trial in rows)])
    return [*lines, f"and {len(ranked) - len(rows)} more, in the report"] if len(ranked) > len(rows) else lines


def _trial_cells(results: SearchResults, trial: FrozenTrial) -> tuple[str, ...]:
    seconds = trial_seconds(trial)
    values = " ".join(results.plan.space.overrides(trial.params))
    if len(values) > MAX_VALUES_LENGTH:
        values = f"{values[: MAX_VALUES_LENGTH - 1]}…"
    scores = format_trial_scores(results, trial)
    return str(trial.number), STATE_NAMES[trial.state], *scores, "" if seconds is None else f"{seconds:.1f}", values


def _search_row(folder: Path) -> tuple[str, ...]:
    """Return the row of a search; one that cannot be read does not hide the others."""
    age = format_age(time.time() - last_activity(folder))
    try:
        plan, study = open_search(folder)
        results = read_search_results(plan, folder, study, is_under_way=journal.is_open(folder / JOURNAL))
        score = "" if results.best is None else format_trial_scores(results, results.best)[0]
        best = f"{results.objectives[0].name} {score}" if score else ""
        return folder.name, results.state, f"{results.done}/{results.wanted}", best, age
    except Exception as problem:  # noqa: BLE001  a file may be damaged in any way
        if isinstance(problem, RunError) and not isinstance(problem, DamagedFileError):
            return folder.name, "empty", "", "", age
        return folder.name, "DAMAGED", "", f"why: pipeline search show {folder.name}", age


def align_columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(len(rows[0]))]
    return ["".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _warn(sentence: str) -> None:
    print_labelled("warning", sentence, sys.stderr)
