"""The page of a run in MLflow while the run goes on."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking.journal import Journal
from pipeline.tracking.mlflow.store import MlflowStore
from pipeline.tracking.shipping.run_sync import REPORT, LiveReport, RunSync

WRITE = "import sys, pathlib; page = pathlib.Path(sys.argv[1]); page.write_text(f'{page.exists()}')"


@pytest.fixture
def sync(run_dir: Path, journal: Journal, begin: Callable[..., None], sqlite_uri: str, tmp_path: Path) -> RunSync:
    begin(journal)
    made = RunSync(run_dir, MlflowStore(sqlite_uri, str(tmp_path / "artifacts")))
    made.send_new()
    return made


def page_of(sync: RunSync, script: str = WRITE, *, pause_seconds: float = 0) -> LiveReport:
    command = [sys.executable, "-c", script, str(sync.run_dir / REPORT)]
    return LiveReport(sync, command, pause_seconds=pause_seconds)


def look_until_done(page: LiveReport) -> bool:
    """Whether there was something to be made."""
    page.update()
    begun = page._command is not None
    deadline = time.monotonic() + 30
    while page._command is not None:
        assert time.monotonic() < deadline
        page.update()
        time.sleep(0.02)
    return begun


def test_the_live_report_is_written_and_sent_after_each_validation(
    sync: RunSync, journal: Journal, contents: Callable[[str], Any]
) -> None:
    page = page_of(sync)
    journal.metrics({"train/loss": 1.0}, step=1)
    assert not look_until_done(page)
    for step in (10, 20):
        journal.metrics({"val/loss": 1.0}, step=step)
        assert look_until_done(page) and not look_until_done(page)
    assert (sync.run_dir / REPORT).read_text() == "True"  # twice
    assert sync.run_id is not None
    assert contents(sync.store.uri).files(sync.run_id) == [REPORT]


def test_the_live_report_respects_its_pause(sync: RunSync, journal: Journal) -> None:
    page = page_of(sync, pause_seconds=60)
    journal.metrics({"val/loss": 1.0}, step=10)
    assert not look_until_done(page)


def test_a_failing_report_command_costs_nothing_but_the_report(
    sync: RunSync, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    page = page_of(sync, "raise SystemExit(7)")
    journal.metrics({"val/loss": 1.0}, step=10)
    assert look_until_done(page)
    assert "report.html could not be made (exit code 7)" in caplog.text
    assert sync.progress.problem is None


def test_a_run_that_has_ended_gets_no_live_report(sync: RunSync, journal: Journal) -> None:
    page = page_of(sync)
    journal.metrics({"val/loss": 1.0}, step=10)
    journal.end("FINISHED")
    sync.send_new()
    assert not look_until_done(page)
