"""`pipeline register`: a run's model under a name of its own, and the best of that name as its champion."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.errors import DONE, ConfigError, RunError, TrackingError
from pipeline.lifecycle.final_test import TEST_HEADLINES
from pipeline.lifecycle.summaries import UI_ADDRESS, train_command
from pipeline.reports import predictions
from pipeline.runs.find_run import find_run
from pipeline.runs.model_selection import record_test_use, score_from_tags, tag_of_test_set, validation_score
from pipeline.runs.run_directory import Run
from pipeline.runs.tracking_store import TrackingStore, export_command, tracking_store_of
from pipeline.tracking import sidecar, tracking_uri
from pipeline.tracking.journal import Journal
from pipeline.tracking.mlflow import ui_server
from pipeline.tracking.mlflow.registry import CHAMPION, MODELS_SCHEME, ModelRegistry, RegisteredModel

DIGEST_TAG = "test.digest"
LOOKS_TAG = "test.looks"


def register(
    reference: str,
    name: str,
    runs_dir: str,
    *,
    force: bool,
    typed: Mapping[str, str] | None = None,
    packages: Sequence[str] = (),
) -> int:
    """Its exit code. Raises RunError for a run without a model, ConfigError for a name that MLflow does not take."""
    run = find_run(reference, runs_dir, packages=packages)
    check_name(name, run.config().name)
    metrics, store = _judged(run), _store(run, typed)
    uri = store.uri
    digest = predictions.saved_test_digest(run.folder)
    if digest is not None:
        _look(run, digest)
    try:
        run_id = _in_mlflow(run, store)
        registry = ModelRegistry(uri)
        before = registry.champion(name)
        seen = 0 if digest is None else registry.count_tag_words(tag_of_test_set(digest))
        version = registry.register(
            name, run_id=run_id, tags=_tags(run, metrics, digest, seen), description=_lineage(run, metrics)
        )
        if version is None:
            raise RunError(f"{run.id} has no model in MLflow, only its metrics: a module of your own is not exported")
        if digest is not None:
            registry.tag(name, {tag_of_test_set(digest): str(seen)})
        moves, reason = verdict(version, before)
        if moves or force:
            registry.set_champion(name, version)
    except TrackingError as problem:
        raise RunError(f"MLflow ({tracking_uri.redact(uri)}) does not take {name}: {problem}") from problem
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(f"registered  {name} version {version.number}, from {run.id}")
    if moves or force:
        console.print(f"champion    version {version.number}: {reason}" + ("" if moves else " (force=true)"))
    else:
        assert before is not None
        console.print(f"champion    stays version {before.number}: {reason}; force=true moves it all the same")
    for sentence in figures_of_test(version, before, seen):
        console.print(f"test set    {sentence}")
    page = ui_server.page_link(
        uri if tracking_uri.is_server(uri) else UI_ADDRESS, ui_server.version_page(name, version.number)
    )
    console.print(f"MLflow      {page}" + ("" if tracking_uri.is_server(uri) else "  (after: pipeline ui)"))
    console.print(f"use it      pipeline evaluate run={MODELS_SCHEME}{name}@{CHAMPION}")
    return DONE


def _store(run: Run, typed: Mapping[str, str] | None) -> TrackingStore:
    store = tracking_store_of(run, typed, verb="register")
    if store is None:
        raise RunError(
            f"{run.id} was trained with tracking=none, so no MLflow has its model: train with tracking=mlflow"
        )
    return store


def check_name(name: str, example: str) -> str:
    # The quote because MLflow's search for versions has no way to write one.
    if not re.fullmatch(r"[^/:'.\s]([^/:'\n]*[^/:'\s])?", name):
        raise ConfigError(
            f"name={name}: expected what the model is to be called, without /, : and ', such as name={example}"
        )
    return name


def verdict(new: RegisteredModel, champion: RegisteredModel | None) -> tuple[bool, str]:
    """Whether the new version becomes the champion, and why: only a better score on the same validation samples is a
    reason. The test set chooses nothing."""
    if champion is None:
        return True, "the first of its name"
    if champion.number == new.number:
        return False, "that is this one"
    mine, theirs = score_from_tags(new.tags), score_from_tags(champion.tags)
    for version, score in ((new, mine), (champion, theirs)):
        if score is None:
            return False, f"not comparable, version {version.number} has no validation score"
    assert mine is not None and theirs is not None
    if (mine.metric, mine.mode) != (theirs.metric, theirs.mode):
        return False, f"not comparable, {mine.metric} chose this one and {theirs.metric} version {champion.number}"
    said = f"{mine.metric} {mine.value:.4f} against version {champion.number}'s {theirs.value:.4f}"
    if not mine.digest or mine.digest != theirs.digest:
        return False, f"not comparable, {said}, but on other validation samples"
    return mine.is_better_than(theirs), said


def figures_of_test(new: RegisteredModel, champion: RegisteredModel | None, looks: int) -> Iterator[str]:
    """What stands beside the choice, for a person."""
    mine, theirs = _figures(new), {} if champion is None or champion.number == new.number else _figures(champion)
    name = next((each for each in TEST_HEADLINES if each in mine), None)
    if name is None:
        return
    said = f"{name} {mine[name]:.4f}"
    if champion is not None and name in theirs:
        same = new.tags.get(DIGEST_TAG) == champion.tags.get(DIGEST_TAG)
        said += f", version {champion.number}'s {theirs[name]:.4f}{'' if same else ' on another test set'}"
    yield f"{said}; it chooses nothing"
    if looks:
        times = "once" if looks == 1 else f"{looks} times"
        yield f"looked at {times} in this MLflow, each with other weights"


def _figures(version: RegisteredModel) -> dict[str, float]:
    found = {}
    for name in TEST_HEADLINES:
        with suppress(KeyError, ValueError):  # anybody may write a tag
            found[name] = float(version.tags[name])
    return found


def _tags(run: Run, metrics: dict[str, float], digest: str | None, looks: int) -> dict[str, str]:
    score = validation_score(run)
    return {
        "run_uid": run.id,
        DIGEST_TAG: digest or "",
        LOOKS_TAG: str(looks),
        **({} if score is None else score.tags()),
        **{key: repr(value) for key, value in metrics.items()},
    }


def _look(run: Run, digest: str) -> None:
    """A run of an older version has not noted by itself that it was tested."""
    best = (run.result() or {}).get("best_checkpoint")
    writer = Journal(run.journal_path)
    record_test_use(run, digest, "last" if best is None else Path(best).name, writer)
    writer.close()


def _judged(run: Run) -> dict[str, float]:
    result: dict[str, Any] | None = run.result()
    if result is None or result["status"] != "FINISHED":
        raise RunError(f"{run.id} is not finished, so it has no model to register: pipeline resume run={run.id}")
    if (name := run.missing_checkpoint) is not None:
        raise RunError(
            f"{run.id}: its figures are those of {name}, which is gone, and its training has gone on since; to "
            f"end that and judge it anew: pipeline resume run={run.id}"
        )
    metrics: dict[str, float] = result["metrics"]
    return metrics


def _in_mlflow(run: Run, store: TrackingStore) -> str:
    """MLflow's id of the run, with its model there. Raises RunError if it cannot be brought there."""
    state = sidecar.sync_run(run.folder, **store._asdict(), on_model=export_command(run))
    if state.mlflow_run_id is None or not state.complete:
        why = state.problem or f"{state.waiting} left"
        raise RunError(f"{run.id} is not in MLflow yet ({why}); once it can be: pipeline sync run={run.id}")
    return state.mlflow_run_id


def _lineage(run: Run, metrics: dict[str, float]) -> str:
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(metrics.items()))
    return f"From run {run.id}:\n\n```\n{train_command(run)}\n```\n\n| metric | value |\n| --- | --- |\n{rows}\n"
