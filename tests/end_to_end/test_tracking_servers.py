"""`pipeline train` with a real server in every condition: the training is the same, and its password is nowhere."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.tracking import servers
from tests.tracking.roads import Condition, Road
from tests.tracking.servers import Server

from pipeline.tracking import sync_state
from pipeline.tracking.journal import metric_history
from pipeline.tracking.mlflow.mlflow_client import mlflow_client

pytestmark = pytest.mark.slow

EVERY_STEP = ("trainer.max_epochs=1", "trainer.log_every_n_steps=1")
CREDENTIALS = {"MLFLOW_TRACKING_USERNAME": servers.ADMIN, "MLFLOW_TRACKING_PASSWORD": servers.PASSWORD}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers.tracking_server(tmp_path_factory.mktemp("tracking-server")) as server:
        yield server


@pytest.fixture(scope="module")
def untracked(program: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The curves of a run without MLflow."""
    root = tmp_path_factory.mktemp("untracked") / "home"
    ended = program.run(root, "train", *program.SMALL, *EVERY_STEP)
    assert ended.code == 0, ended.err
    return metric_history(program.only_run(root) / "journal.jsonl")


def command_lines() -> Iterator[str]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            yield " ".join(process.cmdline())


@pytest.mark.parametrize("condition", ["healthy", "slow", "dead", "absent"])
def test_the_loss_is_the_same_whatever_the_server_does_and_the_password_is_nowhere(
    program: Any,
    server: Server,
    untracked: dict[str, Any],
    watched: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    condition: Condition,
) -> None:
    root, road = tmp_path / "home", Road(server.uri, condition)
    tracked = ("tracking=mlflow", f"tracking.uri={road.uri}")
    process = watched(program.start(root, "train", *program.SMALL, *EVERY_STEP, *tracked, **CREDENTIALS))
    while process.popen.poll() is None:
        assert not [line for line in command_lines() if servers.PASSWORD in line]
        time.sleep(0.2)
    ended = process.end()
    assert ended.code == 0 and "Traceback" not in ended.err
    run_dir = program.only_run(root)
    for name in ("train/loss", "val/loss", "test/accuracy"):
        assert metric_history(run_dir / "journal.jsonl")[name] == untracked[name]

    road.become("healthy")
    deadline = time.monotonic() + 180
    while (synced := program.run(root, "sync", **CREDENTIALS)).code != 0 and time.monotonic() < deadline:
        time.sleep(2)  # the run's own carrier may be at it
    assert synced.out == f"{run_dir.name}: complete\n"
    road.close()
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and servers.PASSWORD.encode() in path.read_bytes()]
    assert kept == [] and servers.PASSWORD not in ended.out + ended.err

    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    client = mlflow_client(server.uri)
    run_id = sync_state.read_sync_state(run_dir).mlflow_run_id
    assert client.get_run(run_id).info.status == "FINISHED"
    for name, points in metric_history(run_dir / "journal.jsonl").items():
        assert sorted((point.step, point.value) for point in client.get_metric_history(run_id, name)) == points
    assert (
        "model" in [file.path for file in client.list_artifacts(run_id)] or client.get_run(run_id).outputs.model_outputs
    )


def test_an_address_with_a_password_is_refused_before_anything_starts(program: Any, tmp_path: Path) -> None:
    ended = program.run(tmp_path / "home", "train", "tracking.uri=http://ann:hidden@127.0.0.1:5000")
    assert ended.code == 2 and "MLFLOW_TRACKING_PASSWORD" in ended.err and "hidden" not in ended.err
    assert list((tmp_path / "home").iterdir()) == []
