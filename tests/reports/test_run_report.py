"""The page of a run, from a directory made by hand."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.commands.report import report
from pipeline.errors import RunError
from pipeline.reports import run_report
from pipeline.reports.predictions import ClassPredictions
from pipeline.runs.run_directory import Run
from pipeline.tracking.journal import Journal

Predicted = Callable[..., ClassPredictions]
MakeRun = Callable[..., Run]
HOSTILE = '<script>alert("1")</script>&amp;\u202e'
VOID = {"br", "img", "meta"}


class Balance(HTMLParser):
    """Tags that are open, and those that were ever seen."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def parsed(page: str) -> Balance:
    found = Balance()
    found.feed(page)
    assert found.open == []
    return found


def words(page: str) -> str:
    return " ".join(" ".join(parsed(page).text).split())


class TestAFinishedRun:
    @pytest.fixture
    def page(self, predicted: Predicted, pictured: Any, run_like: MakeRun, tmp_path: Path) -> str:
        return run_report.write_run_report(run_like(tmp_path / "run", pictured(predicted(0.8)))).read_text(
            encoding="utf-8"
        )

    def test_is_one_file_that_fetches_nothing(self, page: str) -> None:
        assert not re.search(r"https?://|//[a-z]|@import|url\(", page)
        assert not parsed(page).seen & {"script", "link", "iframe", "object"}
        assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', page))
        assert "default-src 'none'" in page.replace("&#x27;", "'")
        assert len(page.encode()) < 2_000_000

    def test_begins_with_the_accuracy_and_its_interval(self, page: str) -> None:
        said = words(page)
        assert re.search(r"accuracy 80\.00% 95% interval: 7\d\.\d\d to 8\d\.\d\d%", said)
        assert "320 of 400 test samples correct, 80 wrong" in said
        assert said.index("80.00%") < said.index("Learning curves")

    def test_says_what_was_trained_on_what(self, page: str) -> None:
        assert "CNN with 1,234 parameters, trained on 90 samples of pets (1x8x8, 3 classes)" in words(page)

    def test_marks_the_best_epoch(self, page: str) -> None:
        assert "best: epoch 2" in page and "epoch 2 (step 20): the lowest val/loss" in words(page)

    def test_has_every_part(self, page: str) -> None:
        titles = re.findall(r"<h2>(.*?)</h2>", page)
        assert titles == [
            *("Learning curves", "By class", "Calibration", "Worst mistakes", "Lowest margins"),
            *("Where the 8.0 s went", "Settings", "Commands", "Environment"),
        ]

    def test_shows_every_mistake_and_close_call_as_a_picture(self, page: str) -> None:
        assert len(re.findall("<img ", page)) == 24 + 12

    def test_tells_where_the_time_went(self, page: str) -> None:
        said = words(page)
        assert "forward, backward and step 4.5 s 56.2%" in said
        assert "waiting for data 0.8 s 9.4%" in said and "validation 1.5 s 18.8%" in said
        assert "everything else 1.2 s 15.6%" in said

    def test_ends_with_what_to_type(self, page: str) -> None:
        for command in ("train seed=0", "resume run=run", "evaluate run=run", "report run=run"):
            assert f"pipeline {command}" in words(page)


def test_names_from_outside_are_shown_and_never_obeyed(predicted: Predicted, run_like: MakeRun, tmp_path: Path) -> None:
    run = run_like(
        tmp_path / "run",
        predicted(0.8),
        name=HOSTILE,
        classes=(HOSTILE, "Łódź 🐈", '" onload="x'),
        params={HOSTILE: HOSTILE},
    )
    page = run_report.write_run_report(run).read_text(encoding="utf-8")
    found = parsed(page)
    assert "script" not in found.seen and "onload" not in re.sub(r"&quot;.*?&quot;", "", page)
    assert HOSTILE in "".join(found.text) and "Łódź 🐈" in "".join(found.text)


def test_a_run_under_way_shows_its_curves_and_no_test(run_like: MakeRun, tmp_path: Path) -> None:
    run = run_like(tmp_path / "run", None, status="RUNNING")
    (run.folder / "result.json").unlink()
    writer = Journal(run.journal_path)
    writer.note("still here")
    said = words(run_report.write_run_report(run).read_text(encoding="utf-8"))
    writer.close()
    assert "still running" in said and "accuracy, validation 0.9000" in said
    assert "Learning curves" in said and "By class" not in said
    assert "pipeline resume run=run" in said


def test_a_run_that_was_killed_and_could_not_say_so_is_not_called_under_way(run_like: MakeRun, tmp_path: Path) -> None:
    run = run_like(tmp_path / "run", None, status="RUNNING")
    assert "ended before it was finished" in words(run_report.write_run_report(run).read_text(encoding="utf-8"))


def test_a_run_that_goes_on_does_not_show_the_test_of_its_earlier_life(
    predicted: Predicted, run_like: MakeRun, tmp_path: Path
) -> None:
    run = run_like(tmp_path / "run", predicted(0.8))
    for name in ("result.json", "predictions.npz"):
        os.utime(run.folder / name, (1e9, 1e9))  # written before the journal's newest start
    said = words(run_report.write_run_report(run).read_text(encoding="utf-8"))
    assert "80.00%" not in said and "By class" not in said and "Learning curves" in said


def test_a_run_that_was_killed_and_judged_since_shows_what_its_predictions_tell(
    predicted: Predicted, run_like: MakeRun, changed: Any, tmp_path: Path
) -> None:
    run = run_like(tmp_path / "run", predicted(0.8), status="KILLED")
    changed(run, "result.json", {"metrics": {}})
    said = words(run_report.write_run_report(run).read_text(encoding="utf-8"))
    assert "ended before it was finished" in said and "accuracy 80.00% 95% interval" in said


def test_a_password_in_an_address_is_not_shown(predicted: Predicted, run_like: MakeRun, tmp_path: Path) -> None:
    run = run_like(tmp_path / "run", predicted(0.8))
    (run.folder / "overrides.txt").write_text("tracking.uri=postgresql://ann:s3cret@host/db\n")
    run.config_path.write_text(run.config_path.read_text() + "uri: postgresql://ann:s3cret@host/db\n")
    assert "s3cret" not in run_report.write_run_report(run).read_text(encoding="utf-8")


def test_a_network_that_lost_its_numbers_still_has_a_page(
    predicted: Predicted, run_like: MakeRun, tmp_path: Path
) -> None:
    network = predicted(0.8)
    broken = replace(
        network, log_probabilities=np.full_like(network.log_probabilities, np.nan), losses=network.losses * np.nan
    )
    assert "Lowest margins" in words(
        run_report.write_run_report(run_like(tmp_path / "run", broken)).read_text(encoding="utf-8")
    )


def test_a_network_that_is_always_right_has_no_mistakes(
    predicted: Predicted, run_like: MakeRun, tmp_path: Path
) -> None:
    said = words(run_report.write_run_report(run_like(tmp_path / "run", predicted(1.0))).read_text(encoding="utf-8"))
    assert "None: every test sample is correct." in said
    assert "100.00% 95% interval: 99.08 to 100.00%" in said


def test_many_classes_get_their_confusions_instead_of_a_matrix(
    predicted: Predicted, run_like: MakeRun, tmp_path: Path
) -> None:
    names = tuple(f"class {number}" for number in range(200))
    run = run_like(tmp_path / "run", predicted(0.5, classes=200), classes=names)
    page = run_report.write_run_report(run).read_text(encoding="utf-8")
    assert "Most frequent confusions" in page and '<table class="confusion"' not in page
    assert len(page.encode()) < 2_000_000


def test_samples_that_are_no_images_are_named_by_their_rows(
    predicted: Predicted, run_like: MakeRun, tmp_path: Path
) -> None:
    network = predicted(0.8)
    page = run_report.write_run_report(run_like(tmp_path / "run", network)).read_text(encoding="utf-8")
    assert "<img" not in page and f"row {network.ids[network.worst_mistakes[0]]}" in words(page)


def test_mistakes_in_text_are_shown_as_sentences_and_never_obeyed(
    predicted: Predicted, run_like: MakeRun, tmp_path: Path
) -> None:
    network = predicted(0.8)
    sentences = np.array([f"{HOSTILE} film number {row}" for row in network.reported_rows])
    kept = replace(network, pictured=network.reported_rows, sentences=sentences)
    page = run_report.write_run_report(run_like(tmp_path / "run", kept)).read_text(encoding="utf-8")
    worst = network.worst_mistakes[0]
    names = [("cat", "dog", "eel")[label] for label in (network.targets[worst], network.predicted[worst])]
    said = f"{HOSTILE} film number {worst} {names[0]} → {names[1]} {network.confidence[worst]:.1%}"
    assert said in words(page) and "script" not in parsed(page).seen
    assert words(page).count(HOSTILE) == 24 + 12


def test_a_run_of_an_older_version_is_told_what_adds_the_rest(
    predicted: Predicted, run_like: MakeRun, tmp_path: Path
) -> None:
    run = run_like(tmp_path / "run", predicted(0.8))
    (run.folder / "assembled.json").unlink()
    with pytest.raises(RunError, match=r"older version made it.*pipeline evaluate run=run"):
        run_report.write_run_report(run)


def test_a_run_that_has_not_started_has_nothing_to_report(run_like: MakeRun, tmp_path: Path) -> None:
    run = run_like(tmp_path / "run", None)
    run.journal_path.unlink()
    with pytest.raises(RunError, match="has not started"):
        run_report.write_run_report(run)


def test_the_verb_says_where_the_page_is_and_what_it_lacks(
    run_like: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_like(tmp_path / "run", None)
    assert report(["run=run", f"runs_dir={tmp_path}"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        str(tmp_path / "run" / "report.html"),
        "without the test set: run has no predictions; pipeline evaluate run=run writes them",
    ]
