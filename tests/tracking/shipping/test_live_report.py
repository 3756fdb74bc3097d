"""The page of a run in MLflow while the run goes on."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking.journal import Journal
from pipeline.tracking.mlflow.store import MlflowStore
from pipeline.tracking.shipping.live_report import PAGE, LivePage
from pipeline.tracking.shipping.run_sync import Replica

WRITE = "import sys, pathlib; page = pathlib.Path(sys.argv[1]); page.write_text(f'{page.exists()}')"


@pytest.fixture
def replica(run_dir: Path, journal: Journal, begin: Callable[..., None], sqlite_uri: str, tmp_path: Path) -> Replica:
    begin(journal)
    made = Replica(run_dir, MlflowStore(sqlite_uri, str(tmp_path / "artifacts")))
    made.ship()
    return made


def page_of(replica: Replica, script: str = WRITE, *, pause_seconds: float = 0) -> LivePage:
    command = [sys.executable, "-c", script, str(replica.run_dir / PAGE)]
    return LivePage(replica, command, pause_seconds=pause_seconds)


def look_until_done(page: LivePage) -> bool:
    """Whether there was something to be made."""
    page.look()
    begun = page._command is not None
    deadline = time.monotonic() + 30
    while page._command is not None:
        assert time.monotonic() < deadline
        page.look()
        time.sleep(0.02)
    return begun


def test_it_is_made_and_sent_after_each_validation(
    replica: Replica, journal: Journal, contents: Callable[[str], Any]
) -> None:
    page = page_of(replica)
    journal.metrics({"train/loss": 1.0}, step=1)
    assert not look_until_done(page)
    for step in (10, 20):
        journal.metrics({"val/loss": 1.0}, step=step)
        assert look_until_done(page) and not look_until_done(page)
    assert (replica.run_dir / PAGE).read_text() == "True"  # twice
    assert replica.run_id is not None
    assert contents(replica.store.uri).files(replica.run_id) == [PAGE]


def test_it_is_not_made_more_often_than_it_may(replica: Replica, journal: Journal) -> None:
    page = page_of(replica, pause_seconds=60)
    journal.metrics({"val/loss": 1.0}, step=10)
    assert not look_until_done(page)


def test_a_command_that_fails_costs_nothing_but_the_page(
    replica: Replica, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    page = page_of(replica, "raise SystemExit(7)")
    journal.metrics({"val/loss": 1.0}, step=10)
    assert look_until_done(page)
    assert "report.html could not be made (exit code 7)" in caplog.text
    assert replica.progress.problem is None


def test_a_run_that_has_ended_is_left_alone(replica: Replica, journal: Journal) -> None:
    page = page_of(replica)
    journal.metrics({"val/loss": 1.0}, step=10)
    journal.end("FINISHED")
    replica.ship()
    assert not look_until_done(page)
