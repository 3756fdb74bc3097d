"""Texts about a run: before it starts, for MLflow, and when it has ended."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline import run_files
from pipeline.lifecycle.build import Components
from pipeline.lifecycle.final_test import EvaluationResult, headline_metric
from pipeline.reports import run_report
from pipeline.runs.run_directory import Run, checkpoint_step
from pipeline.tracking import tracking_uri
from pipeline.tracking.mlflow import ui_server
from pipeline.tracking.sync_state import SyncState

# The nodes whose values are compared between runs, in the order of MLflow's columns.
COMPARED_NODES = ("data", "model", "optimizer", "scheduler", "regularizer", "callbacks", "task", "trainer", "seed")
GROUPS = ("data", "model", "optimizer", "scheduler")
# They say where a run trains, not what it is.
NOT_COMPARED = re.compile(r"_target_|_partial_|\.root$|evaluation_batch_size|^trainer\.(devices|num_nodes|accelerator)")
MAX_COLUMNS_SHOWN = 20
HOSTS_TAG = "hosts"  # the machines that train a run
UI_ADDRESS = "http://127.0.0.1:5000"


def training_plan(run: Run, components: Components, trainer: pl.Trainer, start_from: Path | None) -> Text:
    """Return the lines that are printed before training: data, model, length, directory."""
    epochs = "1 epoch" if trainer.max_epochs == 1 else f"{trainer.max_epochs or '?'} epochs"
    steps = "" if components.total_steps is None else f", {components.total_steps:,} steps"
    rows = [
        ("data", _data(components)),
        *_columns_line(components),
        ("model", _model(components)),
        ("training", f"{epochs}{steps}, {_devices(trainer)}"),
        ("writes to", relative_to_working_directory(run.folder)),
    ]
    if start_from is not None:
        rows.append(("goes on at", f"step {checkpoint_step(start_from):,} ({start_from.name})"))
    return _aligned(rows)


def _aligned(rows: list[tuple[str, str]]) -> Text:
    """Align labels and values. Not a table: a link or a path must stay in one piece, however narrow the window."""
    text = Text()
    for index, (label, value) in enumerate(rows):
        text.append("\n" if index else "").append(f"{label:<12}", style="bold").append(value)
    return text


def run_start_record(run: Run, config: DictConfig, components: Components) -> dict[str, Any]:
    """Return the first record of the journal: name, experiment, parameters and tags for MLflow."""
    environment = run.environment()
    facts = run_files.ASSEMBLED.record(run.folder)
    assert facts is not None  # written by this process just now
    devices = facts["devices"]
    git = environment.get("git") or {}
    tags = {
        "mlflow.user": environment.get("user"),
        "device": f"{devices['count']} x {devices['kind']}, {devices['precision']}",
        HOSTS_TAG: environment.get("host"),
        "command": train_command(run),
        "mlflow.source.git.commit": git.get("commit"),
        "git.dirty": None if not git else str(git["dirty"]).lower(),
        "data.digest": None if components.spec is None else components.spec.digest,
        "init_from": config.get("init_from"),
    }
    return {
        "name": f"{config.name}-{run.id[-4:]}",  # fits MLflow's column, and is different for each run
        "experiment": config.tracking.get("experiment") or config.name,
        "run_uid": run.id,
        "params": logged_parameters(config, environment.get("choices") or {}),
        "tags": {key: value for key, value in tags.items() if value is not None},
    }


def changed_setting_tags(before: dict[str, Any], now: dict[str, Any], step: int) -> dict[str, str]:
    """Return tags for the settings that a resume has changed, because params of MLflow cannot change."""
    return {
        f"changed.{key}": f"{before.get(key)} -> {now.get(key)}, from step {step}"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    }


def logged_parameters(config: DictConfig, choices: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that are compared between runs, flat and in a fixed order."""
    flat: dict[str, Any] = {group: choices[group] for group in GROUPS if group in choices}
    plain: Any = OmegaConf.to_container(config, resolve=False)  # a value from the environment may be a secret
    for node in COMPARED_NODES:
        flat |= {key: leaf for key, leaf in _leaves(node, plain[node]) if not NOT_COMPARED.search(key)}
    return flat


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield key, value


def test_result_table(test_result: EvaluationResult | None, seconds: float) -> RenderableType:
    """Return the table of test metrics at the end of a run."""
    if test_result is None or not test_result.metrics:
        return Text(f"trained in {seconds:.1f} s; nothing to test")
    table = Table(title=f"test set, {_checkpoint(test_result)}", title_justify="left", show_edge=False)
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in _headline_first(test_result.metrics):
        table.add_row(name, f"{value:.4f}")
    return Group("", table, "", f"trained in {seconds:.1f} s")


def next_steps(run: Run, config: DictConfig, state: SyncState | None) -> Text:
    """Return the lines at the end of a run: its directory, its page in MLflow, and commands to type next."""
    return _aligned(
        [
            ("run", relative_to_working_directory(run.folder)),
            *_mlflow_lines(run, config, state),
            ("again", f"pipeline evaluate run={run.id}"),
        ]
    )


def _mlflow_lines(run: Run, config: DictConfig, state: SyncState | None) -> list[tuple[str, str]]:
    if state is None:
        return []
    uri = config.tracking.uri
    on_server = tracking_uri.is_server(uri)
    rows = []
    if state.experiment_id is not None and state.mlflow_run_id is not None:
        link = ui_server.run_link(uri if on_server else UI_ADDRESS, state.experiment_id, state.mlflow_run_id)
        rows.append(("MLflow", link if on_server else f"{link}  (after: pipeline ui)"))
    if state.problem is not None:
        rows.append(("", f"MLflow: {state.problem}; to send it later: pipeline sync run={run.id}"))
    elif state.only_model_waiting:
        rows.append(("", "(its model follows in the background)"))
    elif state.waiting:
        rows.append(("", f"{state.waiting} on the way; to see: pipeline sync run={run.id}"))
    return rows


def stopped_message(run: Run, saved: str | None) -> str:
    """Return the message of a run that was stopped; `saved` is the name of its newest checkpoint."""
    if saved is None:
        return f"stopped before the first checkpoint; {relative_to_working_directory(run.folder)} holds what there is"
    return f"stopped; {saved} is saved. To go on: pipeline resume run={run.id}"


def headline_markdown(test_result: EvaluationResult | None) -> str:
    """Return the headline metric of a finished run, as Markdown."""
    metrics = {} if test_result is None else test_result.metrics
    name = headline_metric(metrics)
    return "**no test**" if name is None else f"**{name} {metrics[name]:.4f}**"


def run_description(
    run: Run,
    components: Components,
    headline: str,
    test_result: EvaluationResult | None = None,
    pictures: Sequence[str] = (),
) -> str:
    """Return the description of a run for MLflow, as Markdown; the headline first, because MLflow shows three lines.

    `pictures` are files of the run directory. The process that sends it replaces each `artifact:` by an address.
    """
    links = " · ".join(f"[{_title(path)}](artifact:{path})" for path in (run_report.REPORT_FILE, *pictures))
    parts = [headline, links, f"{_data(components)}; {_model(components)}"]
    if test_result is not None and test_result.metrics:
        rows = (f"| {name} | {value:.4f} |" for name, value in _headline_first(test_result.metrics))
        parts.append("\n".join(("| metric | value |", "| --- | --- |", *rows)))
    parts.append(f"```\n{train_command(run)}\npipeline evaluate run={run.id}\n```")
    parts += [f"![{_title(path)}](artifact:{path})" for path in pictures]
    return "\n\n".join(parts) + "\n"


def _title(path: str) -> str:
    return PurePosixPath(path).stem.replace("_", " ")


def train_command(run: Run) -> str:
    """Return the command that trains a run like this one."""
    return shlex.join(["pipeline", "train", *run.overrides()])


def relative_to_working_directory(path: Path) -> str:
    """Return the path relative to the working directory, if it is inside."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):  # also if the working directory was deleted meanwhile
        return str(path)


def _data(components: Components) -> str:
    spec = components.spec
    if spec is None:
        return type(components.data).__name__
    shape = "x".join(str(size) for size in spec.input_shape)
    if spec.kind == "table":
        shape = f"{shape} inputs"
    if spec.kind == "text":
        shape = f"{shape} tokens at most, {spec.vocabulary_size:,} known"
    if spec.kind == "audio":
        shape = f"{spec.input_shape[0] / spec.sample_rate:g} s at {spec.sample_rate:,} Hz"
    sizes = ", ".join(f"{size:,} {part}" for part, size in spec.sizes.items())
    return f"{spec.name}: {sizes}; {shape}, {spec.answers}"


def _columns_line(components: Components) -> list[tuple[str, str]]:
    columns = () if components.spec is None else components.spec.columns
    if not columns:
        return []
    more = f", and {len(columns) - MAX_COLUMNS_SHOWN} more" if len(columns) > MAX_COLUMNS_SHOWN else ""
    return [("columns", ", ".join(columns[:MAX_COLUMNS_SHOWN]) + more)]


def _model(components: Components) -> str:
    return f"{components.model_name}, {components.trainable_parameters:,} parameters"


def _devices(trainer: pl.Trainer) -> str:
    device = trainer.strategy.root_device.type
    return f"{trainer.world_size} x {device}, {trainer.precision}"


def _checkpoint(test_result: EvaluationResult) -> str:
    return "last weights" if test_result.checkpoint is None else test_result.checkpoint.name


def _headline_first(metrics: dict[str, float]) -> list[tuple[str, float]]:
    first = headline_metric(metrics)
    return sorted(metrics.items(), key=lambda item: (item[0] != first, item[0]))
