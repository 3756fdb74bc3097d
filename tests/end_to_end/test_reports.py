"""The page that each run leaves behind, and several runs side by side."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.reports import predictions, run_report
from pipeline.reports.evaluation_statistics import calibration
from pipeline.runs.run_directory import Run
from pipeline.tracking.journal import metric_history, read_journal


@pytest.fixture(scope="module")
def page(finished: Any) -> str:
    text: str = (finished.folder / run_report.REPORT_FILE).read_text(encoding="utf-8")
    return text


def test_the_page_stands_alone(page: str) -> None:
    assert not re.search(r"https?://|<script|<link|@import", page)
    assert set(re.findall(r'src="(.{15})', page)) == {"data:image/png;"}
    assert len(page.encode()) < 2_000_000


def test_its_figures_are_those_of_the_result(finished: Any, page: str) -> None:
    metrics = finished.result["metrics"]
    for name, form in (("accuracy", ".2%"), ("f1_macro", ".2%"), ("loss", ".4f"), ("auroc", ".4f")):
        assert f"<b>{metrics[f'test/{name}']:{form}}</b>" in page
    low, high = re.findall(r"95% interval: ([\d.]+) to ([\d.]+)%", page)[0]
    assert float(low) < 100 * metrics["test/accuracy"] < float(high)
    assert page.count("data:image/png;base64,") >= 12


def test_what_is_kept_of_the_predictions_says_the_same_as_the_metrics(finished: Any) -> None:
    kept, metrics = predictions.load_predictions(finished.folder), finished.result["metrics"]
    assert kept is not None and kept.log_probabilities.shape == (1_000, 10)
    assert float(kept.correct.mean()) == pytest.approx(metrics["test/accuracy"], abs=1e-7)
    assert float(kept.losses.mean()) == pytest.approx(metrics["test/loss"], rel=1e-5)
    error = calibration(kept.confidence, kept.correct).error
    assert error == pytest.approx(metrics["test/calibration_error"], abs=1e-5)
    assert np.array_equal(kept.ids, np.arange(1_000))


def test_the_journal_hands_the_page_to_mlflow_before_the_run_ends(finished: Any) -> None:
    records = [record for record, _ in read_journal(finished.folder / "journal.jsonl")]
    files = [record.get("path") for record in records]
    assert {"report.html", "assembled.json"} <= set(files)
    assert records[-1]["kind"] == "end"


def test_the_journal_says_where_the_time_went(finished: Any) -> None:
    curves = metric_history(finished.folder / "journal.jsonl")
    for part in ("data", "steps", "validation", "checkpoints"):
        assert [step for step, _ in curves[f"system/seconds_{part}"]] == [10, 20, 30]
    whole = sum(value for name, points in curves.items() if "system/seconds_" in name for _, value in points)
    whole -= sum(value for _, value in curves["system/seconds_per_epoch"])
    assert 0.5 * finished.result["seconds"] < whole < finished.result["seconds"]


def test_the_directory_alone_is_enough_to_make_it_again(program: Any, finished: Any, page: str, tmp_path: Path) -> None:
    folder = tmp_path / "moved here"
    shutil.copytree(finished.folder, folder, symlinks=True)
    (folder / run_report.REPORT_FILE).unlink()
    ended = program.run(tmp_path / "nowhere", "report", f"run={folder}")
    assert (ended.code, ended.err) == (0, "") and ended.out.strip() == str(folder / run_report.REPORT_FILE)
    again = (folder / run_report.REPORT_FILE).read_text(encoding="utf-8")
    assert again.replace(folder.name, finished.folder.name) == page


def test_an_older_run_is_given_what_it_lacks_by_evaluate(program: Any, finished: Any, tmp_path: Path) -> None:
    folder = finished.copied_to(tmp_path)
    for name in (run_report.REPORT_FILE, predictions.PREDICTIONS_FILE, "assembled.json"):
        (folder / name).unlink()
    refused = program.run(tmp_path, "report")
    assert refused.code == 2 and f"pipeline evaluate run={folder.name}" in refused.err
    assert program.run(tmp_path, "evaluate").code == 0
    assert program.run(tmp_path, "report").code == 0
    text = (folder / run_report.REPORT_FILE).read_text(encoding="utf-8")
    assert "Lowest margins" in text and "Confusion matrix" in text


def test_a_page_that_cannot_be_written_costs_one_line_and_not_the_run(program: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        """
import pytorch_lightning as pl

class InTheWay(pl.Callback):
    def on_test_start(self, trainer, pl_module):
        from pathlib import Path
        (Path(trainer.default_root_dir) / "report.html").mkdir()
"""
    )
    ended = program.run(
        tmp_path,
        *("train", *program.SMALL, "trainer.max_epochs=1"),
        *("allow_packages=[mine]", "+callbacks.way._target_=mine.InTheWay"),
    )
    assert (ended.code, ended.err) == (0, "")
    (line,) = (line for line in ended.out.splitlines() if "report.html" in line)
    assert line.startswith("report.html could not be made: ")
    run_dir = program.only_run(tmp_path)
    assert program.result(run_dir)["status"] == "FINISHED"
    assert "Traceback" in (run_dir / "run.log").read_text()


def test_a_worse_run_loses_to_a_better_one(program: Any, finished: Any, tmp_path: Path) -> None:
    better = finished.copied_to(tmp_path)
    worse = program.run(tmp_path, "train", *program.SMALL[1:], "model=softmax_regression", "trainer.max_epochs=1")
    assert worse.code == 0, worse.err
    (other,) = (folder for folder in program.runs_in(tmp_path) if folder != better)
    ended = program.run(tmp_path, "compare", f"runs={other.name},{better.name[-4:]}")
    assert (ended.code, ended.err) == (0, "")
    assert f"{better.name[16:]} is the best" in ended.out
    assert re.search(r"model +│ softmax_regression +│ cnn", ended.out)
    written = tmp_path / ended.out.strip().splitlines()[-1]
    assert written.name == f"compare-{other.name[-4:]}-{better.name[-4:]}.html"
    assert f"{better.name[16:]} is the best" in written.read_text(encoding="utf-8")


def test_a_run_beside_itself_under_another_name_has_no_clear_winner(
    program: Any, finished: Any, tmp_path: Path
) -> None:
    first = finished.copied_to(tmp_path)
    shutil.copytree(first, first.with_name("twin"), symlinks=True)
    ended = program.run(tmp_path, "compare", f"runs={first.name},twin")
    assert ended.code == 0 and "no clear winner" in ended.out
    assert Run(first).id in (tmp_path / ended.out.strip().splitlines()[-1]).read_text(encoding="utf-8")
