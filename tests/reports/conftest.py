"""Run directories made by hand: what a report reads, without any training."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.reports import predictions as saved
from pipeline.reports.predictions import ClassPredictions
from pipeline.runs.run_directory import Run
from pipeline.tracking.journal import Journal

CONFIG = """checkpoint:
  monitor: val/loss
  mode: min
name: cnn-pets
data: {}
model: {}
trainer: {}
tracking: {uri: null, artifacts: null}
launch: {_target_: pipeline.launch.local.Local}
"""
CLASSES = ("cat", "dog", "eel")


def network(
    right: float, *, size: int = 400, classes: int = 3, seed: int = 0, digest: str = "the test set"
) -> ClassPredictions:
    """What a network of this accuracy would have said of the same test set."""
    targets = (np.arange(size) % classes).astype(np.int32)
    generator = np.random.default_rng(seed)
    said = np.where(generator.permutation(size) < right * size, targets, (targets + 1) % classes).astype(np.int32)
    scores = generator.normal(size=(size, classes))
    scores[np.arange(size), said] = scores.max(axis=1) + generator.exponential(size=size) + 0.01
    log_probabilities = (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(np.float32)
    return ClassPredictions(
        log_probabilities=log_probabilities,
        predicted=said,
        targets=targets,
        ids=np.arange(size),
        losses=-log_probabilities[np.arange(size), targets],
        digest=digest,
        pictured=np.zeros(0, dtype=np.int64),
        pictures=np.zeros((0, 1, 1), dtype=np.uint8),
    )


def with_pictures(predictions: ClassPredictions) -> ClassPredictions:
    rows = np.union1d(predictions.worst_mistakes, predictions.lowest_margins)
    return replace(predictions, pictured=rows, pictures=np.full((len(rows), 8, 8), 200, dtype=np.uint8))


def make_run(
    folder: Path,
    predictions: ClassPredictions | None,
    *,
    name: str = "cnn-pets",
    classes: tuple[str, ...] = CLASSES,
    status: str = "FINISHED",
    params: dict[str, Any] | None = None,
) -> Run:
    """A run of three epochs of ten steps, as if it had ended like this."""
    run = Run(folder)
    run.checkpoints.mkdir(parents=True)
    (run.checkpoints / "best.ckpt").symlink_to("step-00000020.ckpt")
    run.config_path.write_text(CONFIG)
    (folder / "overrides.txt").write_text("trainer.max_epochs=3\n")
    run.write_json("environment.json", {"python": "3.12", "packages": {"torch": "2.6"}, "host": "here", "git": None})
    data = {
        "name": "pets",
        "input_shape": [1, 8, 8],
        "class_names": classes,
        "sizes": {"train": 90},
        "digest": "d" * 64,
    }
    run.write_json(
        "assembled.json",
        {
            "data": data,
            "model": {"name": "CNN", "parameters": 1234},
            "devices": {"count": 1, "kind": "cpu", "precision": "32-true"},
            "steps_per_epoch": 10,
        },
    )
    settings = {"seed": 0, "trainer.max_epochs": 3} | (params or {})
    journal = Journal(run.journal_path)
    journal.start(name=name, experiment="pets", run_uid=run.id, params=settings, tags={"command": "pipeline train"})
    for step in (10, 20, 30):
        journal.metrics({"train/loss": 3 / step, "train/learning_rate": 0.01}, step=step)
        journal.metrics({"val/loss": 0.5 + abs(step - 20) / 100, "val/accuracy": 0.9}, step=step)
        journal.metrics({"system/seconds_per_epoch": 2.0, "system/seconds_steps": 1.5}, step=step)
        journal.metrics({"system/seconds_data": 0.25, "system/seconds_validation": 0.5}, step=step)
    journal.close()
    metrics = {} if predictions is None else {"test/accuracy": float(predictions.correct.mean()), "test/loss": 0.25}
    run.write_json(
        "result.json", {"status": status, "metrics": metrics, "seconds": 8.0, "command": "pipeline train seed=0"}
    )
    if predictions is not None:
        saved.write_predictions(folder, predictions)
    return run


@pytest.fixture
def predicted() -> Callable[..., ClassPredictions]:
    return network


@pytest.fixture
def pictured() -> Callable[[ClassPredictions], ClassPredictions]:
    return with_pictures


@pytest.fixture
def run_like() -> Callable[..., Run]:
    return make_run


@pytest.fixture
def changed() -> Callable[[Run, str, dict[str, Any]], None]:
    """Another value in one of the run's JSON files."""

    def change(run: Run, file: str, values: dict[str, Any]) -> None:
        path = run.folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change
