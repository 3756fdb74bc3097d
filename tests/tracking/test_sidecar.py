"""Real processes and real signals: a small training process, its sidecar, and a store that comes and goes."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.tracking.processes import Trainings, find_run, has_ended, sidecar_of, state, wait_for
from tests.tracking.roads import Road

from pipeline.tracking import sidecar, sync_state
from pipeline.tracking.journal import Journal, metric_history
from pipeline.tracking.shipping.sync_worker import ParentPipe, SyncJob, send_until_done

Begin = Callable[..., None]


@pytest.fixture
def training(run_dir: Path) -> Iterator[Trainings]:
    with Trainings(run_dir) as started:
        yield started


def test_a_run_arrives_with_its_files_model_and_status(
    run_dir: Path,
    journal: Journal,
    begin: Begin,
    sqlite_uri: str,
    tmp_path: Path,
    contents: Callable[[str], Any],
) -> None:
    begin(journal)
    script = "import os; from pathlib import Path; Path('logged').write_text(os.environ['MLFLOW_RUN_ID'])"
    handle = sidecar.start_sidecar(
        run_dir,
        uri=sqlite_uri,
        artifacts=str(tmp_path / "artifacts"),
        on_model=[sys.executable, "-c", script.replace("'logged'", repr(str(tmp_path / "logged")))],
    )
    (run_dir / "config.yaml").write_text("a: 1")
    journal.artifact("config.yaml")
    for step in range(100):
        journal.metrics({"loss": float(step)}, step=step)
    journal.model()
    journal.end("FINISHED")
    arrived = handle.wait(60, for_model=True)
    assert arrived.complete and arrived.problem is None and arrived.mlflow_run_id is not None
    held = contents(sqlite_uri)
    assert held.points(arrived.mlflow_run_id, "loss") == [(step, float(step)) for step in range(100)]
    assert held.files(arrived.mlflow_run_id) == ["config.yaml"]
    assert (tmp_path / "logged").read_text() == arrived.mlflow_run_id


def test_the_status_does_not_wait_for_the_model(run_dir: Path, journal: Journal, begin: Begin, sqlite_uri: str) -> None:
    begin(journal)
    waiting = [sys.executable, "-c", "import time; time.sleep(30)"]
    handle = sidecar.start_sidecar(run_dir, uri=sqlite_uri, artifacts=None, on_model=waiting)
    journal.model()
    journal.end("FINISHED")
    wait_for(lambda: state(run_dir).get("status") == "FINISHED")
    assert find_run(sqlite_uri, run_dir).info.status == "FINISHED"
    assert handle.wait(600, for_model=False).only_model_waiting  # the model would be there after these seconds
    assert handle.wait(0.1, for_model=True).waiting == "the model"
    assert handle.process is not None
    for process in (*psutil.Process(handle.process.pid).children(), handle.process):
        process.kill()
    handle.process.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_after_any_end_of_the_training_its_sidecar_sends_all_points_and_marks_the_run_killed(
    run_dir: Path,
    sqlite_uri: str,
    training: Callable[..., Any],
    contents: Callable[[str], Any],
    number: signal.Signals,
) -> None:
    process = training(sqlite_uri, steps=1_000_000)
    shipper = sidecar_of(process)
    wait_for(lambda: state(run_dir).get("metrics", 0) > 0)
    os.killpg(process.pid, number)  # to the whole group, as the terminal does
    process.wait(10)
    assert not has_ended(shipper)
    wait_for(lambda: has_ended(shipper))
    run = find_run(sqlite_uri, run_dir)
    assert run.info.status == "KILLED"
    assert sync_state.read_sync_state(run_dir).complete
    assert contents(sqlite_uri).points(run.info.run_id, "loss") == metric_history(run_dir / "journal.jsonl")["loss"]


def test_the_training_goes_on_without_its_sidecar_and_sync_sends_the_rest(
    run_dir: Path,
    sqlite_uri: str,
    training: Callable[..., Any],
    contents: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = training(sqlite_uri, steps=1_000_000)
    shipper = sidecar_of(process)
    wait_for(lambda: state(run_dir).get("metrics", 0) > 0)
    shipper.kill()
    (run_dir / "stop").touch()
    assert process.stdout.read() == "False\n"
    assert process.wait(20) == 0
    assert sync_state.read_sync_state(run_dir).waiting

    arrived = sidecar.sync_run(run_dir, uri=sqlite_uri, artifacts=None, on_model=None)
    assert arrived.complete and arrived.status == "FINISHED"
    logged = metric_history(run_dir / "journal.jsonl")["loss"]
    assert contents(sqlite_uri).points(arrived.mlflow_run_id, "loss") == logged
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("there is nothing to send"))
    assert sidecar.sync_run(run_dir, uri=sqlite_uri, artifacts=None, on_model=None) == arrived


@pytest.mark.slow
def test_sync_does_not_end_a_run_that_is_still_training(
    run_dir: Path, sqlite_uri: str, training: Callable[..., Any]
) -> None:
    process = training(sqlite_uri, steps=1_000_000)
    shipper = sidecar_of(process)
    wait_for(lambda: state(run_dir))
    busy = sidecar.sync_run(run_dir, uri=sqlite_uri, artifacts=None, on_model=None)
    assert busy.problem is not None and "just now" in busy.problem
    shipper.kill()
    wait_for(lambda: has_ended(shipper))
    arrived = sidecar.sync_run(run_dir, uri=sqlite_uri, artifacts=None, on_model=None)
    assert arrived.status is None and process.poll() is None
    assert find_run(sqlite_uri, run_dir).info.status == "RUNNING"


def test_a_server_that_is_down_at_the_start_gets_everything_once_it_is_up(
    run_dir: Path, server_uri: str, training: Callable[..., Any], contents: Callable[[str], Any]
) -> None:
    road = Road(server_uri, "dead")
    process = training(road.uri.replace("http://", "http://me:secret@"), steps=300)
    shipper = sidecar_of(process)
    wait_for(lambda: state(run_dir).get("problem"))
    assert "secret" not in " ".join(shipper.cmdline())
    road.become("healthy")
    assert process.stdout.read() == "True\n" and process.wait(20) == 0
    run = find_run(server_uri, run_dir)
    assert run.info.status == "FINISHED"
    assert contents(server_uri).points(run.info.run_id, "loss") == [(step, float(step)) for step in range(300)]
    for name in ("sync.json", "sidecar.log"):
        assert "secret" not in (run_dir / name).read_text()


def test_a_server_that_stays_down_costs_the_run_nothing_and_sync_says_so(
    run_dir: Path, journal: Journal, begin: Begin, tmp_path: Path
) -> None:
    begin(journal)
    journal.end("FINISHED")
    away = "http://127.0.0.1:9"
    handle = sidecar.start_sidecar(run_dir, uri=away, artifacts=None, on_model=None)
    wait_for(lambda: state(run_dir).get("problem"))
    left = handle.wait(0.1, for_model=True)
    assert (left.waiting, left.complete) == ("the last records", False)
    assert left.problem is not None and "127.0.0.1" in left.problem
    assert handle.process is not None and handle.process.poll() is None  # it goes on trying
    handle.process.kill()
    handle.process.wait()


def test_a_sidecar_that_cannot_start_causes_a_warning_and_no_error(
    run_dir: Path, journal: Journal, begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    begin(journal)
    run_dir.joinpath("sidecar.log").mkdir()
    handle = sidecar.start_sidecar(run_dir, uri="sqlite:///x.db", artifacts=None, on_model=None)
    assert "nothing is sent to MLflow" in caplog.text
    left = handle.wait(1, for_model=True)
    assert left.problem is not None and not left.complete


def test_a_database_that_cannot_be_created_is_reported_and_harms_nothing(
    run_dir: Path, journal: Journal, begin: Begin, tmp_path: Path
) -> None:
    begin(journal)
    journal.end("FINISHED")
    (tmp_path / "file").write_text("in the way")
    reading, writing = os.pipe()
    os.close(writing)
    send_until_done(
        run_dir, SyncJob(f"sqlite:///{tmp_path}/file/mlflow.db", None, None, patience_seconds=0), ParentPipe(reading)
    )
    os.close(reading)
    left = sync_state.read_sync_state(run_dir)
    assert not left.complete and left.problem is not None and "file" in left.problem


def test_the_sidecar_of_a_deleted_run_ends(run_dir: Path, journal: Journal, begin: Begin, sqlite_uri: str) -> None:
    begin(journal)
    handle = sidecar.start_sidecar(run_dir, uri=sqlite_uri, artifacts=None, on_model=None)
    wait_for(lambda: state(run_dir))
    shutil.rmtree(run_dir)
    assert handle.wait(30, for_model=True).mlflow_run_id is None
    assert handle.process is not None
    assert handle.process.returncode == 0
