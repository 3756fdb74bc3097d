"""Several runs side by side."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.commands.compare import compare
from pipeline.errors import ConfigError, RunError
from pipeline.reports import run_report
from pipeline.reports.predictions import ClassPredictions, MultilabelPredictions, write_predictions
from pipeline.runs.run_directory import Run

Predicted = Callable[..., ClassPredictions]
MakeRun = Callable[..., Run]
GOOD, ALIKE, BAD = (f"2026010{day}-120000-cnn-pets-{tail}" for day, tail in ((1, "aaaa"), (2, "bbbb"), (3, "cccc")))


def compare_runs(names: str, folder: Path, *more: str) -> int:
    return compare([*([f"runs={names}"] if names else []), f"runs_dir={folder}", *more])


@pytest.fixture
def three(predicted: Predicted, run_like: MakeRun, tmp_path: Path) -> Path:
    run_like(tmp_path / GOOD, predicted(0.90, seed=1), params={"seed": 1})
    run_like(tmp_path / ALIKE, predicted(0.91, seed=2), params={"seed": 2})
    run_like(tmp_path / BAD, predicted(0.60, seed=3), params={"model": "<b>mlp</b>"})
    return tmp_path


def test_two_seeds_of_the_same_have_no_clear_winner(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_runs(f"{GOOD},{ALIKE}", three) == 0
    assert "no clear winner" in capsys.readouterr().out
    page = (three / "compare-aaaa-bbbb.html").read_text(encoding="utf-8")
    assert '<p class="verdict">No clear winner</p>' in page


def test_a_good_run_wins_over_a_bad_one(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = three / "new folder/page.html"
    compare_runs(f"{BAD},{GOOD}", three, f"output={output}")
    said = capsys.readouterr().out
    assert "cnn-pets-aaaa is the best" in said and str(output) in said
    assert "cnn-pets-aaaa over cnn-pets-cccc: +30.00% accuracy" in said and "adjusted p < 0.0001" in said
    assert "cnn-pets-aaaa is the best" in output.read_text(encoding="utf-8")


def test_the_page_fetches_nothing_and_escapes_everything(three: Path) -> None:
    compare_runs(f"{GOOD},{ALIKE},{BAD}", three)
    page = (three / "compare-aaaa-bbbb-cccc.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script|<link|src=", page)
    assert "<b>mlp</b>" not in page and "&lt;b&gt;mlp&lt;/b&gt;" in page
    assert "No clear winner among cnn-pets-bbbb and cnn-pets-aaaa" in page


def test_only_settings_that_differ_are_listed(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare_runs(f"{GOOD},{ALIKE}", three)
    said = capsys.readouterr().out
    assert re.search(r"seed +│ 1 +│ 2", said) and "max_epochs" not in said


def test_another_test_set_is_refused_for_the_paired_test_alone(
    three: Path, predicted: Predicted, run_like: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "20260104-120000-cnn-pets-dddd"
    run_like(three / other, predicted(0.6, digest="another"))
    compare_runs(f"{GOOD},{other}", three)
    said = capsys.readouterr().out
    assert "No paired test: cnn-pets-dddd were evaluated on another test set than cnn-pets-aaaa" in said
    assert "is the best" not in said and "90.00%" in said
    page = (three / "compare-aaaa-dddd.html").read_text(encoding="utf-8")
    assert "No paired test" in page and "Pair by pair" not in page


class TestRefused:
    @pytest.mark.parametrize("references", ["", GOOD, "aaaa,"])
    def test_is_less_than_two_runs(self, three: Path, references: str) -> None:
        with pytest.raises(ConfigError, match=r"two runs or more, found [01]: pipeline compare runs=RUN,RUN"):
            compare_runs(references, three)

    def test_is_the_same_run_twice(self, three: Path) -> None:
        with pytest.raises(ConfigError, match=f"{GOOD} is named twice"):
            compare_runs(f"{GOOD},aaaa", three)

    def test_is_a_run_without_predictions(self, three: Path) -> None:
        (three / BAD / "predictions.npz").unlink()
        with pytest.raises(RunError, match=f"no test predictions .*: pipeline evaluate run={BAD} writes them"):
            compare_runs(f"{GOOD},{BAD}", three)

    def test_is_a_run_that_is_not_there(self, three: Path) -> None:
        with pytest.raises(RunError, match="runs=eeee is not in"):
            compare_runs(f"{GOOD},eeee", three)


def test_runs_of_several_labels_are_compared_by_samples_with_all_labels_right(
    run_like: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    true = np.arange(300).reshape(100, 3) % 2 == 0
    for identity, wrong in ((GOOD, 5), (BAD, 40)):
        run = run_like(tmp_path / identity, None)
        probabilities = np.where(true, 0.9, 0.1).astype(np.float32)
        probabilities[:wrong, 2] = 1 - probabilities[:wrong, 2]
        write_predictions(
            run.folder,
            MultilabelPredictions(probabilities, true, np.arange(100), np.ones(100, np.float32), "the test set"),
        )
    compare_runs(f"{BAD},{GOOD}", tmp_path)
    said = capsys.readouterr().out
    assert "cnn-pets-aaaa over cnn-pets-cccc: +35.00% accuracy" in said and "right alone 35 : 0" in said
    assert "cnn-pets-aaaa is the best" in said
    page = run_report.write_run_report(Run(tmp_path / GOOD)).read_text(encoding="utf-8")
    assert "95 of 100 test samples correct, 5 wrong" in page and "95.00%" in page and "95% interval: 9" in page
