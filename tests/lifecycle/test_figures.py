"""The pictures of a run as files, from directories made by hand."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.reports.conftest import make_run, network, with_pictures
from tests.reports.test_regression_sections import numbers

from pipeline.lifecycle import figures
from pipeline.reports import charts, run_report
from pipeline.reports import predictions as saved
from pipeline.reports.charts import Chart
from pipeline.reports.predictions import MultilabelPredictions, TestPredictions
from pipeline.reports.report_data import load_report_data
from pipeline.runs.run_directory import Run

HOSTILE = "<script>alert(1)</script>"


class NoData:
    """An assembly whose data cannot be looked at."""

    data = None


def labels(count: int = 3) -> MultilabelPredictions:
    generator = np.random.default_rng(0)
    true = generator.random((50, count)) < 0.3
    chances = np.clip(true + generator.normal(0, 0.4, true.shape), 0, 1).astype(np.float32)
    return MultilabelPredictions(chances, true, np.arange(50), np.zeros(50, np.float32), "the test set")


def lost(columns: int) -> TestPredictions:
    kept = numbers(columns)
    kept.predicted[:] = np.nan
    return kept


@pytest.fixture
def drawn(tmp_path: Path) -> Callable[..., dict[str, ElementTree.Element]]:
    def draw(kept: TestPredictions | None, classes: tuple[str, ...]) -> dict[str, ElementTree.Element]:
        run = make_run(tmp_path / "20261123-120000-cnn-pets-aaaa", None, classes=classes)
        if kept is not None:
            saved.write_predictions(run.folder, kept)
        assembly: Any = NoData()
        return {path.stem: ElementTree.parse(path).getroot() for path in figures.write_figures(run, assembly)}

    return draw


MANY = tuple(f"class {number}" for number in range(charts.READABLE + 1))
CASES: dict[str, tuple[TestPredictions | None, tuple[str, ...], set[str]]] = {
    "classes": (network(0.8), ("cat", "dog", "eel"), {"confusion_matrix", "reliability"}),
    "classes whose samples are pictures": (
        with_pictures(network(0.8)),
        ("cat", "dog", HOSTILE),
        {"confusion_matrix", "reliability", "worst_mistakes"},
    ),
    "no mistake": (with_pictures(network(1.0)), ("cat", "dog", "eel"), {"confusion_matrix", "reliability"}),
    "more classes than can be read": (network(0.5, classes=len(MANY)), MANY, {"confusion_matrix", "reliability"}),
    "numbers": (numbers(), (), {"prediction_against_truth", "residuals"}),
    "several numbers": (numbers(columns=2), (), {"prediction_against_truth", "residuals"}),
    "numbers that are none": (lost(1), (), {"prediction_against_truth", "residuals"}),
    "labels": (labels(), ("a", "b & c", HOSTILE), {"labels"}),
    "no test": (None, ("cat", "dog", "eel"), set()),
}


@pytest.mark.parametrize("case", list(CASES))
def test_each_figure_is_complete_and_needs_no_other_file(drawn: Any, case: str) -> None:
    kept, classes, expected = CASES[case]
    found = drawn(kept, classes)
    assert set(found) == {"learning_curves", *expected}
    for name, root in found.items():
        text = ElementTree.tostring(root, encoding="unicode")
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and "script" not in {each.tag for each in root.iter()}
        assert "var(" not in text and "nan" not in re.sub(r"data:[^\"]*", "", text).lower(), name
        assert all(each.startswith("data:image/png;base64,") for each in re.findall(r'href="([^"]*)', text))
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        assert 100 < width < 4000 and 100 < height < 4000, (name, width, height)


def test_the_page_and_the_files_show_the_same_charts(tmp_path: Path) -> None:
    run = make_run(tmp_path / "20261123-120000-cnn-pets-aaaa", network(0.8))
    page = run_report.render_run_report(load_report_data(run))
    assembly: Any = NoData()
    files = {path.stem: path.read_text(encoding="utf-8") for path in figures.write_figures(run, assembly)}
    for name in ("learning_curves", "reliability"):
        paths = re.findall(r'<path d="(M[^"]*L[^"]*)"|<rect[^>]*class="bar[^>]*>', files[name])
        assert paths and all(each in page for each in paths if each)


def test_a_name_longer_than_its_chart_is_not_cut_off() -> None:
    chart = Chart("x" * 200, charts.join_html())
    assert float(ElementTree.fromstring(charts.svg_file([chart])).attrib["width"]) > 1_400


def test_every_chart_has_a_name_for_those_who_do_not_see_it(run_of_numbers: Run) -> None:
    page = run_report.render_run_report(load_report_data(run_of_numbers))
    assert len(re.findall(r"<figure>", page)) == len(re.findall(r'<svg[^>]*role="img" aria-label="\w', page)) > 3


@pytest.fixture
def run_of_numbers(tmp_path: Path) -> Run:
    run = make_run(tmp_path / "20261123-120000-cnn-pets-aaaa", None, classes=())
    saved.write_predictions(run.folder, replace(numbers()))
    return run
