"""MLflow's pages in a real browser, as `pipeline ui` serves them after `pipeline train` and `pipeline register`.

With PIPELINE_SCREENSHOTS=FOLDER in the environment the pages are photographed there, for docs/images.
"""

import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")

pytestmark = pytest.mark.slow

# Chromium talks to its maker at every start, and refuses root's sandbox.
FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PATIENCE_MS = 30_000
PICTURE = 'img[src*="learning_curves"]'
WHO = "mlflow/users/current"
SETTLED_MS = 2_000  # for what is animated, before a photograph


@dataclass(frozen=True)
class Served:
    """A store with two runs of different learning rates, the better one registered as digits."""

    base: str  # http://127.0.0.1:PORT
    runs: dict[str, dict[str, Any]]  # run directory's name -> its result.json
    printed: list[str]  # every link that the commands printed

    @property
    def ids(self) -> list[str]:
        return [result["mlflow_run_id"] for result in self.runs.values()]


@pytest.fixture(scope="module")
def served(program: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("browsed") / "home"
    said = ""
    for rate in ("1e-3", "1e-2"):
        trained = program.run(home, "train", "trainer.max_epochs=5", f"optimizer.learning_rate={rate}")
        assert trained.code == 0, trained.err
        said += trained.out
    registered = program.run(home, "register", "name=digits")
    assert registered.code == 0, registered.err
    said += registered.out
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = program.start(home, "ui", f"port={port}")
    try:
        while not (links := re.findall(r"http://\S+", server.out.read_text())):
            assert server.popen.poll() is None, server.err.read_text()
        base = f"http://127.0.0.1:{port}"
        printed = [link.replace("http://127.0.0.1:5000", base) for link in re.findall(r"http://\S+", said)]
        runs = {folder.name: program.result(folder) for folder in sorted(program.runs_in(home))}
        yield Served(base, runs, [*printed, *links])
    finally:
        server.popen.terminate()
        server.popen.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as driver:
        own = Path(driver.chromium.executable_path)
        if program is None and not own.exists():
            pytest.skip("no browser here (Debian: apt-get install chromium; else: playwright install chromium)")
        started = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    with browser.new_context(viewport={"width": 1440, "height": 900}) as context:
        context.set_default_timeout(PATIENCE_MS)
        opened = context.new_page()
        # The help panel is open for a new visitor and takes a quarter of the window.
        opened.add_init_script("window.localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
        yield opened


def sees(page: Any, text: str | re.Pattern[str]) -> bool:
    """Whether it comes to stand on the page, within PATIENCE_MS."""
    try:
        page.get_by_text(text).first.wait_for(state="visible")
    except playwright.TimeoutError:
        return False
    return True


def photograph(page: Any, name: str) -> None:
    folder = os.environ.get("PIPELINE_SCREENSHOTS")
    if folder is not None:
        page.wait_for_timeout(SETTLED_MS)
        page.screenshot(path=Path(folder, f"{name}.png"))


def name_of(folder: str) -> str:
    """cnn-mnist5k-c1af, of 20261123-212055-cnn-mnist5k-c1af"""
    return folder.split("-", 2)[2]


def test_the_experiment_lists_its_runs_by_name_with_their_data_and_draws_their_curves(
    page: Any, served: Served
) -> None:
    page.goto(f"{served.base}/#/experiments/1?workflowType=machine_learning")
    for folder in served.runs:
        assert sees(page, name_of(folder))
    assert sees(page, re.compile(r"^mnist5k \([0-9a-f]{8}\)"))
    assert page.get_by_text("2 matching runs").is_visible()
    page.goto(f"{served.base}/#/experiments/1/runs?workflowType=machine_learning&compareRunsMode=CHART")
    page.get_by_placeholder("Search metric charts").fill("^(train|val)/(accuracy|loss)$")
    page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for()
    assert {"train/loss", "val/accuracy"} <= set(page.locator("main h4").all_inner_texts())
    photograph(page, "mlflow-experiment")


def test_a_run_opens_with_its_headline_and_its_links_lead_to_its_files(page: Any, served: Served) -> None:
    result = list(served.runs.values())[-1]
    page.goto(next(link for link in served.printed if result["mlflow_run_id"] in link))
    assert sees(page, f"test/accuracy {result['metrics']['test/accuracy']:.4f}")
    assert sees(page, re.compile(r"^mnist5k: 3,500 train, 500 validation, 1,000 test"))
    photograph(page, "mlflow")
    page.get_by_text("Show more").first.click()
    page.locator(PICTURE).scroll_into_view_if_needed()
    page.wait_for_function(f"document.querySelector('{PICTURE}').naturalWidth > 100")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="report", exact=True).click()
    report = opened.value.frame_locator("iframe")
    report.get_by_role("heading", name="Learning curves").wait_for()
    assert report.get_by_text("95% interval").first.is_visible()
    photograph(opened.value, "mlflow-report")


def test_a_runs_charts_and_artifacts_can_be_seen(page: Any, served: Served) -> None:
    run = f"{served.base}/#/experiments/1/runs/{served.ids[-1]}"
    page.goto(f"{run}/model-metrics?workflowType=machine_learning")
    for section, charts in (("test", 5), ("train", 6), ("val", 5)):
        assert sees(page, re.compile(rf"^{section}\s*\({charts}\)$"))
    page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for()
    page.goto(f"{run}/system-metrics?workflowType=machine_learning")
    assert sees(page, "samples_per_second")
    page.goto(f"{run}/artifacts?workflowType=machine_learning")
    for name in ("config.yaml", "environment.json", "overrides.txt", "result.json", "report.html", "figures"):
        assert sees(page, name)
    page.get_by_text("figures", exact=True).click()
    page.get_by_text("confusion_matrix.svg").first.click()
    page.wait_for_function("[...document.images].some((each) => each.naturalWidth > 300)")
    page.get_by_text("config.yaml").first.click()
    assert sees(page, re.compile("learning_rate: 0.01"))


def test_two_runs_are_compared_by_what_differs(page: Any, served: Served) -> None:
    runs = json.dumps(served.ids)
    page.goto(f'{served.base}/#/compare-runs?runs={runs}&experiments=["1"]&workflowType=machine_learning')
    assert sees(page, "Comparing 2 Runs from 1 Experiment")
    for folder in served.runs:
        assert sees(page, name_of(folder))
    differing = page.locator("tr").filter(has=page.get_by_text("optimizer.learning_rate", exact=True)).last
    differing.scroll_into_view_if_needed()
    assert {"0.001", "0.01"} <= set(differing.inner_text().split())
    photograph(page, "mlflow-comparison")


def test_the_registered_model_shows_its_champion_metrics_and_where_it_comes_from(page: Any, served: Served) -> None:
    page.goto(f"{served.base}/#/models/digits?workflowType=machine_learning")
    assert sees(page, re.compile("champion"))
    assert sees(page, "Version 1")
    photograph(page, "mlflow-model")
    page.goto(next(link for link in served.printed if "/models/digits/versions/1" in link))
    accuracy = list(served.runs.values())[-1]["metrics"]["test/accuracy"]
    assert sees(page, re.compile(rf"{accuracy:.4f}"))
    assert sees(page, re.compile("pipeline train trainer.max_epochs=5"))


def test_every_printed_link_opens_a_page_that_exists(page: Any, served: Served) -> None:
    problems: list[str] = []
    # Who is looking, which only a server with accounts can tell.
    page.on("response", lambda got: problems.append(got.url) if got.status >= 400 and WHO not in got.url else None)
    for link in served.printed:
        page.goto("about:blank")
        page.goto(link)
        assert sees(page, re.compile("mnist5k|digits"))
    assert len(served.printed) == 4 and problems == []
