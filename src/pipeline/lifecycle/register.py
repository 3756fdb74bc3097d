"""`pipeline register`: a run's model under a name of its own, and the best of that name as its champion."""

import re
from typing import Any

from rich.console import Console

from pipeline.errors import DONE, ConfigError, RunError, TrackingError
from pipeline.lifecycle import run as runs
from pipeline.lifecycle.describe import UI, command_of
from pipeline.lifecycle.headline import HEADLINES, LOWER_IS_BETTER
from pipeline.lifecycle.recording import export_command
from pipeline.lifecycle.reports import predictions
from pipeline.lifecycle.run import Run
from pipeline.tracking import address, sync, ui
from pipeline.tracking.registry import CHAMPION, SCHEME, Registry, Version

DIGEST_TAG = "test.digest"


def register(reference: str, name: str, runs_dir: str, *, force: bool) -> int:
    """Its exit code. Raises RunError for a run without a model, ConfigError for a name that MLflow does not take."""
    run = runs.find(reference, runs_dir)
    check_name(name, run.config().name)
    metrics, uri = _judged(run), run.config().tracking.uri
    if uri is None:
        raise RunError(
            f"{run.id} was trained with tracking=none, so no MLflow has its model: train with tracking=mlflow"
        )
    try:
        run_id = _in_mlflow(run)
        registry = Registry(uri)
        before = registry.champion(name)
        tags = {
            "run_uid": run.id,
            DIGEST_TAG: _digest_of_test(run),
            **{key: repr(value) for key, value in metrics.items()},
        }
        version = registry.register(name, run_id=run_id, tags=tags, description=_lineage(run, metrics))
        if version is None:
            raise RunError(f"{run.id} has no model in MLflow, only its metrics: a module of your own is not exported")
        moves, reason = verdict(version, before)
        if moves or force:
            registry.crown(name, version)
    except TrackingError as problem:
        raise RunError(f"MLflow ({address.redacted(uri)}) does not take {name}: {problem}") from problem
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"registered  {name} version {version.number}, from {run.id}")
    if moves or force:
        console.print(f"champion    version {version.number}: {reason}" + ("" if moves else " (force=true)"))
    else:
        assert before is not None
        console.print(f"champion    stays version {before.number}: {reason}; force=true moves it all the same")
    page = ui.link(uri if address.is_server(uri) else UI, ui.version_page(name, version.number))
    console.print(f"MLflow      {page}" + ("" if address.is_server(uri) else "  (after: pipeline ui)"))
    console.print(f"use it      pipeline evaluate run={SCHEME}{name}@{CHAMPION}")
    return DONE


def check_name(name: str, example: str) -> str:
    # The quote because MLflow's search for versions has no way to write one.
    if not re.fullmatch(r"[^/:'.\s]([^/:'\n]*[^/:'\s])?", name):
        raise ConfigError(
            f"name={name}: expected what the model is to be called, without /, : and ', such as name={example}"
        )
    return name


def verdict(new: Version, champion: Version | None) -> tuple[bool, str]:
    """Whether the new version becomes the champion, and why: only a better result on the same test set is a reason."""
    if champion is None:
        return True, "the first of its name"
    if champion.number == new.number:
        return False, "that is this one"
    name = next((each for each in HEADLINES if each in new.tags and each in champion.tags), None)
    if name is None:
        return False, "they have no test metric in common"
    mine, theirs = float(new.tags[name]), float(champion.tags[name])
    said = f"{name} {mine:.4f} against version {champion.number}'s {theirs:.4f}"
    if new.tags.get(DIGEST_TAG) != champion.tags.get(DIGEST_TAG):
        return False, f"{said}, but on other data"
    return (mine < theirs if name.endswith(LOWER_IS_BETTER) else mine > theirs), said


def _judged(run: Run) -> dict[str, float]:
    result: dict[str, Any] | None = run.result()
    if result is None or result["status"] != "FINISHED":
        raise RunError(f"{run.id} is not finished, so it has no model to register: pipeline resume run={run.id}")
    metrics: dict[str, float] = result["metrics"]
    return metrics


def _in_mlflow(run: Run) -> str:
    """MLflow's id of the run, with its model there. Raises RunError if it cannot be brought there."""
    tracking = run.config().tracking
    command = export_command(run)
    state = sync.sync_run(run.folder, uri=tracking.uri, artifacts=tracking.artifacts, on_model=command)
    if state.mlflow_run_id is None or not state.complete:
        why = state.problem or f"{state.waiting} left"
        raise RunError(f"{run.id} is not in MLflow yet ({why}); once it can be: pipeline sync run={run.id}")
    return state.mlflow_run_id


def _digest_of_test(run: Run) -> str:
    return predictions.digest_of_test(run.folder) or ""


def _lineage(run: Run, metrics: dict[str, float]) -> str:
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(metrics.items()))
    return f"From run {run.id}:\n\n```\n{command_of(run)}\n```\n\n| metric | value |\n| --- | --- |\n{rows}\n"
