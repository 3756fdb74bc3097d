"""Numbers and two classes, through the whole life of a run."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SHORT = ("trainer.max_epochs=8", "callbacks=none", "tracking=none", "scheduler=constant")


@pytest.fixture(scope="module")
def numbers(program: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of one run that predicts numbers."""
    home: Path = tmp_path_factory.mktemp("numbers") / "home"
    ended = program.run(home, "train", "data=diabetes", "model=linear_regression", *SHORT)
    assert ended.code == 0, ended.err
    assert re.search(r"test/r2 +│ +0\.\d+ ", ended.out) and "a number" in ended.out
    return home


def test_numbers_are_judged_drawn_and_reported(program: Any, numbers: Path) -> None:
    run = program.only_run(numbers)
    metrics = program.result(run)["metrics"]
    assert metrics.keys() == {"test/loss", "test/r2", "test/mae", "test/rmse"} and metrics["test/r2"] > 0.3
    drawn = {path.stem for path in (run / "figures").iterdir()}
    assert drawn == {"learning_curves", "prediction_against_truth", "residuals"}
    with np.load(run / "predictions.npz") as kept:
        missed = np.square(kept["true"] - kept["predicted"]).mean()
    assert np.sqrt(missed) == pytest.approx(metrics["test/rmse"], rel=1e-4)
    page = (run / "report.html").read_text()
    assert "Prediction against truth" in page and "Largest errors" in page and "R²" in page
    assert "By class" not in page


def test_numbers_are_judged_alike_again_and_listed_by_their_headline(program: Any, numbers: Path) -> None:
    r2 = f"{program.result(program.only_run(numbers))['metrics']['test/r2']:.4f}"
    again = program.run(numbers, "evaluate")
    assert again.code == 0 and re.search(rf"test/r2 +│ +{r2} │ +{r2} ", again.out), again.err
    assert f"test/r2 {r2}" in program.run(numbers, "runs").out
    assert program.run(numbers, "report").code == 0


def test_a_perceptron_tells_one_iris_from_the_rest(program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    ended = program.run(home, "train", "experiment=perceptron", "trainer.max_epochs=3", "tracking=none")
    assert ended.code == 0, ended.err
    run = program.only_run(home)
    assert program.result(run)["metrics"]["test/accuracy"] == 1
    page = (run / "report.html").read_text()
    assert "not setosa" in page and "Confusion matrix" in page


@pytest.mark.slow
def test_a_network_for_numbers_or_two_classes_is_exported_and_registered(program: Any, tmp_path: Path) -> None:
    home, short = tmp_path / "home", [word for word in SHORT if word != "tracking=none"]
    for data, model in (("diabetes", "linear_regression"), ("breast_cancer", "logistic_regression")):
        ended = program.run(home, "train", f"data={data}", f"model={model}", *short)
        assert ended.code == 0, ended.err
        said = program.run(home, "register", f"name={data}")
        assert f"registered  {data} version 1" in said.out, said.err
        assert program.run(home, "evaluate", f"run=models:/{data}@champion").code == 0


def test_a_question_that_the_data_does_not_ask_is_refused_without_a_traceback(program: Any, tmp_path: Path) -> None:
    ended = program.run(tmp_path / "home", "train", "data=iris", "model=logistic_regression", *SHORT)
    assert ended.code == 2 and "Traceback" not in ended.err
    assert "asks for one of several classes" in ended.err
    assert "those that fit: model=softmax_regression" in ended.err


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_weights_of_another_precision_are_trained_and_judged_again(
    program: Any, tmp_path: Path, precision: str
) -> None:
    home = tmp_path / "home"
    ended = program.run(home, "train", "data=diabetes", "model=mlp", *SHORT, f"trainer.precision={precision}")
    assert ended.code == 0 and f"cpu, {precision}" in ended.out, ended.err
    again = program.run(home, "evaluate")
    assert again.code == 0, again.err
