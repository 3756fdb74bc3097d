"""Register a run's model in MLflow, and decide whether it becomes the champion of its name."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.errors import DONE, ConfigError, RunError, TrackingError
from pipeline.lifecycle.final_test import TEST_HEADLINES
from pipeline.lifecycle.summaries import UI_ADDRESS, train_command
from pipeline.reports import predictions
from pipeline.runs.model_selection import record_test_use, score_from_tags, tag_of_test_set, validation_score
from pipeline.runs.run_directory import Run
from pipeline.runs.tracking_store import TrackingStore, export_command, tracking_store_of
from pipeline.tracking import sidecar, tracking_uri
from pipeline.tracking.journal import Journal
from pipeline.tracking.mlflow import ui_server
from pipeline.tracking.mlflow.registry import CHAMPION, MODELS_SCHEME, ModelRegistry, RegisteredModel

DIGEST_TAG = "test.digest"
LOOKS_TAG = "test.looks"


def register_run(run: Run, name: str, *, force: bool, typed: Mapping[str, str]) -> int:
    """Register the run's model as a new version of `name`, and make it the champion if it is better or with `force`.

    `typed` holds the store if it is not the run's own. Raise RunError for a run without a model, ConfigError for a
    name that MLflow does not accept.
    """
    check_model_name(name, run.config().name)
    metrics, store = _test_metrics(run), _store(run, typed)
    uri = store.uri
    test_predictions = predictions.load_predictions(run.folder)
    digest = None if test_predictions is None else test_predictions.digest
    if digest is not None:
        _record_test_use(run, digest)
    try:
        run_id = _sync_to_mlflow(run, store)
        registry = ModelRegistry(uri)
        before = registry.champion(name)
        uses = 0 if digest is None else registry.count_tag_words(tag_of_test_set(digest))
        version = registry.register(
            name, run_id=run_id, tags=_tags(run, metrics, digest, uses), description=_description(run, metrics)
        )
        if version is None:
            raise RunError(f"{run.id} has no model in MLflow, only its metrics: a module of your own is not exported")
        if digest is not None:
            registry.tag(name, {tag_of_test_set(digest): str(uses)})
        is_better, reason = compare_with_champion(version, before)
        if is_better or force:
            registry.set_champion(name, version)
    except TrackingError as problem:
        raise RunError(f"MLflow ({tracking_uri.redact(uri)}) does not take {name}: {problem}") from problem
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(f"registered  {name} version {version.number}, from {run.id}")
    if is_better or force:
        console.print(f"champion    version {version.number}: {reason}" + ("" if is_better else " (force=true)"))
    else:
        assert before is not None
        console.print(f"champion    stays version {before.number}: {reason}; force=true moves it all the same")
    for sentence in describe_test_set(version, before, uses):
        console.print(f"test set    {sentence}")
    page = ui_server.page_link(
        uri if tracking_uri.is_server(uri) else UI_ADDRESS, ui_server.version_page(name, version.number)
    )
    console.print(f"MLflow      {page}" + ("" if tracking_uri.is_server(uri) else "  (after: pipeline ui)"))
    console.print(f"use it      pipeline evaluate run={MODELS_SCHEME}{name}@{CHAMPION}")
    return DONE


def _store(run: Run, typed: Mapping[str, str]) -> TrackingStore:
    store = tracking_store_of(run, typed, verb="register")
    if store is None:
        raise RunError(
            f"{run.id} was trained with tracking=none, so no MLflow has its model: train with tracking=mlflow"
        )
    return store


def check_model_name(name: str, example: str) -> None:
    """Raise ConfigError for a name that MLflow does not accept."""
    # The quote because MLflow's search for versions has no way to write one.
    if not re.fullmatch(r"[^/:'.\s]([^/:'\n]*[^/:'\s])?", name):
        raise ConfigError(
            f"name={name}: expected what the model is to be called, without /, : and ', such as name={example}"
        )


def compare_with_champion(new: RegisteredModel, champion: RegisteredModel | None) -> tuple[bool, str]:
    """Return whether the new version is better than the champion, and why.

    Only a better score on the same validation samples counts; the test set selects nothing.
    """
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
    scores = f"{mine.metric} {mine.value:.4f} against version {champion.number}'s {theirs.value:.4f}"
    if not mine.digest or mine.digest != theirs.digest:
        return False, f"not comparable, {scores}, but on other validation samples"
    return mine.is_better_than(theirs), scores


def describe_test_set(new: RegisteredModel, champion: RegisteredModel | None, uses: int) -> Iterator[str]:
    """Yield sentences about the test set for the console: its metrics, and how often it was used."""
    mine, theirs = _figures(new), {} if champion is None or champion.number == new.number else _figures(champion)
    name = next((metric for metric in TEST_HEADLINES if metric in mine), None)
    if name is None:
        return
    metrics = f"{name} {mine[name]:.4f}"
    if champion is not None and name in theirs:
        same = new.tags.get(DIGEST_TAG) == champion.tags.get(DIGEST_TAG)
        metrics += f", version {champion.number}'s {theirs[name]:.4f}{'' if same else ' on another test set'}"
    yield f"{metrics}; it selects nothing"
    if uses:
        times = "once" if uses == 1 else f"{uses} times"
        yield f"used {times} in this MLflow, each time with other weights"


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


def _record_test_use(run: Run, digest: str) -> None:
    """Record that the run was tested: a run of an older version did not."""
    best = (run.result() or {}).get("best_checkpoint")
    writer = Journal(run.journal_path)
    record_test_use(run, digest, "last" if best is None else Path(best).name, writer)
    writer.close()


def _test_metrics(run: Run) -> dict[str, float]:
    result: dict[str, Any] | None = run.result()
    if result is None or result["status"] != "FINISHED":
        raise RunError(f"{run.id} is not finished, so it has no model to register: pipeline resume run={run.id}")
    if (name := run.missing_checkpoint) is not None:
        raise RunError(
            f"{run.id}: its figures are those of {name}, which is gone, and its training has gone on since; to "
            f"end that and evaluate it again: pipeline resume run={run.id}"
        )
    metrics: dict[str, float] = result["metrics"]
    return metrics


def _sync_to_mlflow(run: Run, store: TrackingStore) -> str:
    """Send the run and its model to MLflow and return its id there. Raise RunError if that fails."""
    state = sidecar.sync_run(run.folder, **store._asdict(), on_model=export_command(run))
    if state.mlflow_run_id is None or not state.complete:
        why = state.problem or f"{state.waiting} left"
        raise RunError(f"{run.id} is not in MLflow yet ({why}); once it can be: pipeline sync run={run.id}")
    return state.mlflow_run_id


def _description(run: Run, metrics: dict[str, float]) -> str:
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(metrics.items()))
    return f"From run {run.id}:\n\n```\n{train_command(run)}\n```\n\n| metric | value |\n| --- | --- |\n{rows}\n"
