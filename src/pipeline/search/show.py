"""`pipeline search show`, `list` and `dashboard`: how searches stand. No torch in here."""

import shlex
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline import cli_args
from pipeline.config.frozen import TrustPolicy
from pipeline.durations import format_age
from pipeline.errors import DONE, ConfigError, RunError
from pipeline.run_files import DamagedFileError
from pipeline.search import plan as plans
from pipeline.search import study as studies
from pipeline.search.directory import LATEST, PORT, find, searches, touched_at
from pipeline.search.display import STATES
from pipeline.search.optuna_private import storage_of
from pipeline.search.plan import Plan
from pipeline.search.recipe import command_of
from pipeline.search.results import publish
from pipeline.search.results.cross_validation import chosen, told
from pipeline.search.results.search_results import Standing, scores_of, seconds_of, standing_of
from pipeline.search.storage import STUDY, check_complete
from pipeline.system.streams import print_labelled
from pipeline.tracking import journal
from pipeline.tracking.sync_state import JOURNAL

MOST_TRIALS = 12
LONGEST_VALUES = 90
HOST = "127.0.0.1"
INSTALL = "pip install optuna-dashboard"


def run(words: Sequence[str]) -> int:
    """`words` begin with one of VERBS."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return VERBS[words[0]](list(words[1:]))


def show(words: list[str]) -> int:
    """Pictures and report are made again, also of a search that is under way or was killed."""
    named = cli_args.named_values_after_first(words, {"name": LATEST, "runs_dir": "runs"})
    folder = find(named["name"], named["runs_dir"])
    plan, study = opened(folder)
    is_under_way = journal.is_open(folder / JOURNAL)
    standing = standing_of(plan, folder, study, is_under_way=is_under_way)
    print("\n".join(f"{label:<12}{text}".rstrip() for label, text in _described(standing)))
    print("\n".join(["", *_table(standing)]))
    made = publish.publish(plan, folder, study, _warn, is_under_way=is_under_way)
    if publish.REPORT in made:
        print(f"\nreport      {folder / publish.REPORT}")
    return DONE


def list_searches(words: list[str]) -> int:
    """The newest first."""
    named = cli_args.named_values(words, {"runs_dir": "runs"})
    known = searches(named["runs_dir"])
    if not known:
        find(LATEST, named["runs_dir"])
    rows = [("search", "state", "trials", "best", "age"), *(_row(folder) for folder in known)]
    print("\n".join(aligned(rows)))
    return DONE


def dashboard(words: list[str]) -> int:
    """Optuna's own pages, for this machine alone, until Ctrl-C."""
    named = cli_args.named_values_after_first(words, {"name": LATEST, "runs_dir": "runs", "port": PORT})
    port = cli_args.port_number(named, example=PORT)
    folder = find(named["name"], named["runs_dir"])
    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise ConfigError(f"optuna-dashboard is not installed; to install it:  {INSTALL}") from None
    _, study = opened(folder)
    try:
        socket.create_server((HOST, port)).close()
    except (OSError, OverflowError) as problem:
        raise ConfigError(f"port={port} cannot be used ({problem}); choose another one, such as port=8090") from problem
    storage = storage_of(study)
    number = storage.get_study_id_from_name(study.study_name)
    print(f"{folder.name}: http://{HOST}:{port}/dashboard/studies/{number}", flush=True)
    run_server(storage, host=HOST, port=port)
    return DONE


VERBS: dict[str, Callable[[list[str]], int]] = {"show": show, "list": list_searches, "dashboard": dashboard}


def opened(folder: Path) -> tuple[Plan, Study]:
    """Raises RunError for a search that ended before it had begun."""
    plan = plans.load(folder, TrustPolicy())
    try:
        if plan.settings.storage is None and not (folder / STUDY).exists():  # a look must not make it
            raise KeyError(STUDY)
        return plan, studies.open_study(plan, folder)
    except KeyError:
        check_complete(folder)
        raise RunError(
            f"the search {folder.name} has no trials yet; to begin:  pipeline search name={folder.name}"
        ) from None


def _described(standing: Standing) -> list[tuple[str, str]]:
    best, plan = standing.best, standing.plan
    rows = [("search", str(standing.folder)), ("state", f"{standing.state}; {standing.counts}")]
    rows += [("estimate", line) for line in told(standing.estimates, plan)]
    if best is not None:
        scores = ", ".join(
            f"{name} {score}" for name, score in zip(plan.objectives, scores_of(standing, best), strict=True)
        )
        rows.append(("best", f"trial {best.number}: {scores}"))
        if len(standing.front) > 1:
            rows.append(("", f"one of {len(standing.front)} trials that none is better than in each objective"))
        rows.append(("", shlex.join(command_of(plan, chosen(standing.trials, plan, best)))))
    if standing.comparison is not None:
        rows.append(("test set", standing.comparison.sentence))
    if not standing.is_under_way:
        rows.append(("to go on", standing.command_to_go_on))
    return rows


def _table(standing: Standing) -> list[str]:
    """What is under way, and the best of the others."""
    ranked = standing.ranked()
    running = [each for each in ranked if each.state == TrialState.RUNNING]
    shown = [*running, *(each for each in ranked if each.state != TrialState.RUNNING)][:MOST_TRIALS]
    head = ("trial", "state", *standing.plan.objectives, "seconds", "values")
    lines = aligned([head, *(_cells(standing, each) for each in shown)])
    return [*lines, f"and {len(ranked) - len(shown)} more, in the report"] if len(ranked) > len(shown) else lines


def _cells(standing: Standing, trial: FrozenTrial) -> tuple[str, ...]:
    seconds = seconds_of(trial)
    values = " ".join(standing.plan.space.overrides(trial.params))
    if len(values) > LONGEST_VALUES:
        values = f"{values[: LONGEST_VALUES - 1]}…"
    scores = scores_of(standing, trial)
    return str(trial.number), STATES[trial.state], *scores, "" if seconds is None else f"{seconds:.1f}", values


def _row(folder: Path) -> tuple[str, ...]:
    """One that cannot be read does not hide the others."""
    age = format_age(time.time() - touched_at(folder))
    try:
        plan, study = opened(folder)
        standing = standing_of(plan, folder, study, is_under_way=journal.is_open(folder / JOURNAL))
        score = "" if standing.best is None else scores_of(standing, standing.best)[0]
        best = f"{standing.objectives[0].name} {score}" if score else ""
        return folder.name, standing.state, f"{standing.done}/{standing.wanted}", best, age
    except DamagedFileError:
        return folder.name, "DAMAGED", "", f"why: pipeline search show {folder.name}", age
    except RunError:
        return folder.name, "empty", "", "", age
    except Exception:  # noqa: BLE001  a file may be damaged in any way
        return folder.name, "DAMAGED", "", f"why: pipeline search show {folder.name}", age


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(len(rows[0]))]
    return ["".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _warn(sentence: str) -> None:
    print_labelled("warning", sentence, sys.stderr)
