"""Samples that may have any of several labels, through the whole life of a run."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WORDS = {"funny": ["laugh", "joke"], "sad": ["tears", "loss"], "long": ["hours", "endless"]}
SHORT = ("trainer.max_epochs=12", "callbacks=none", "tracking=none", "scheduler=constant", "data.batch_size=16")


def write_reviews(path: Path) -> None:
    drawn, rows = random.Random(0), []
    for _ in range(400):
        labels = [label for label in WORDS if drawn.random() < 0.5]
        said = ["a", "film", *(drawn.choice(WORDS[label]) for label in labels), drawn.choice(["maybe", "again"])]
        drawn.shuffle(said)
        rows.append(f"{' '.join(said)},{';'.join(labels)}")
    path.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def labelled(program: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of one run that predicts labels."""
    pytest.importorskip("tokenizers")
    home: Path = tmp_path_factory.mktemp("labels") / "home"
    home.mkdir()
    write_reviews(home / "reviews.csv")
    data = ("data=text_table", "data.root=.", "data.source.train=reviews.csv", 'data.source.label_separator=";"')
    ended = program.run(home, "train", *data, "model=bag_of_words", *SHORT)
    assert ended.code == 0, ended.err
    assert "any of 3 labels" in ended.out
    return home


def test_each_label_is_judged_drawn_and_reported(program: Any, labelled: Path) -> None:
    run = program.only_run(labelled)
    assert program.result(run)["metrics"]["test/accuracy"] > 0.9
    assert {path.stem for path in (run / "figures").iterdir()} == {"learning_curves", "labels"}
    with np.load(run / "predictions.npz") as kept:
        hits = (kept["probabilities"] > 0.5) == kept["true"]
    assert hits.all(axis=1).mean() == pytest.approx(program.result(run)["metrics"]["test/accuracy"], abs=1e-6)
    page = (run / "report.html").read_text()
    assert "By label" in page and all(f">{label}<" in page for label in WORDS)


def test_labels_are_judged_alike_again(program: Any, labelled: Path) -> None:
    accuracy = f"{program.result(program.only_run(labelled))['metrics']['test/accuracy']:.4f}"
    again = program.run(labelled, "evaluate")
    assert again.code == 0 and f"{accuracy}" in again.out, again.err
