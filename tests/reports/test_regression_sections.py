"""The page of a run that predicts numbers, from a directory made by hand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import RunError
from pipeline.reports import compare_runs, run_report
from pipeline.reports import predictions as saved
from pipeline.reports.predictions import RegressionPredictions
from pipeline.runs.run_directory import Run


def numbers(columns: int = 1, size: int = 100) -> RegressionPredictions:
    generator = np.random.default_rng(0)
    true = generator.normal(150, 70, (size, columns)).astype(np.float32)
    predicted = true + generator.normal(0, 20, (size, columns)).astype(np.float32)
    losses = np.square((true - predicted) / 70).mean(axis=1)
    return RegressionPredictions(predicted, true, np.arange(size), losses, "the test set")


@pytest.fixture
def page_of(run_like: Callable[..., Run], changed: Callable[..., None], tmp_path: Path) -> Callable[..., str]:
    def render(kept: RegressionPredictions, metrics: dict[str, Any]) -> str:
        run = run_like(tmp_path / "20261123-120000-linear-dust-aaaa", None, classes=())
        changed(run, "assembled.json", {"headline": "val/r2"})
        changed(run, "result.json", {"metrics": metrics})
        saved.write_predictions(run.folder, kept)
        return run_report.write_run_report(run).read_text()

    return render


def test_it_shows_every_sample_beside_its_truth_and_the_figures_with_their_intervals(page_of: Any) -> None:
    page = page_of(numbers(), {"test/r2": 0.92, "test/mae": 16.0, "test/loss": 0.08})
    assert page.count("<circle") >= 200  # a point each in two charts
    assert "R²" in page and "95% interval" in page and "100 test samples" in page
    assert "By class" not in page and "Worst mistakes" not in page


def test_several_numbers_have_their_charts_and_columns(page_of: Any) -> None:
    page = page_of(numbers(columns=2), {"test/r2": 0.92})
    assert "Prediction against truth, number 2" in page and ">number 2</th>" in page


def test_a_network_that_lost_its_numbers_still_has_a_page(page_of: Any) -> None:
    kept = numbers()
    kept.predicted[:] = np.nan
    assert "Largest errors" in page_of(kept, {"test/r2": float("nan")})


@pytest.fixture
def two(run_like: Callable[..., Run], changed: Callable[..., None], tmp_path: Path) -> list[Run]:
    """The second is nearer to the truth."""
    runs = [run_like(tmp_path / f"2026112{day}-120000-linear-dust-{day}aaa", None, classes=()) for day in (1, 2)]
    for run, distance in zip(runs, (2.0, 1.0), strict=True):
        kept = numbers()
        saved.write_predictions(
            run.folder, replace(kept, predicted=kept.targets + distance * (kept.predicted - kept.targets))
        )
        changed(run, "assembled.json", {"headline": "val/r2"})
        changed(run, "result.json", {"metrics": {"test/r2": 1 - 0.08 * distance**2, "test/mae": 16.0 * distance}})
    return runs


def test_two_are_compared_sample_by_sample(two: list[Run], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    compare_runs.write_comparison(two, runs_dir=str(tmp_path), output="")
    said = capsys.readouterr().out
    assert "linear-dust-2aaa over linear-dust-1aaa: +0." in said and "nearer 100 : 0, adjusted p 0.0001" in said
    assert "linear-dust-2aaa is the best" in said and "accuracy" not in said
    page = (tmp_path / "compare-1aaa-2aaa.html").read_text(encoding="utf-8")
    assert ">nearer</th>" in page and ">MAE</th>" in page and "Fisher 1935" in page and "McNemar" not in page


def test_one_whose_numbers_are_none_is_not_compared(two: list[Run]) -> None:
    saved.write_predictions(two[0].folder, replace(numbers(), predicted=np.full((100, 1), np.nan, np.float32)))
    with pytest.raises(RunError, match=rf"{two[0].id} has NaN or infinite predictions, .*: leave it out"):
        compare_runs.load_comparable(two[0])


def test_the_furthest_stand_first(page_of: Any) -> None:
    kept = numbers()
    kept.losses[42] = 9.0
    page = page_of(kept, {"test/r2": 0.92})
    table = page[page.index("Largest errors") :]
    assert table.index("row 42") < min(table.index(f"row {row}<") for row in kept.largest_errors.tolist()[1:])
