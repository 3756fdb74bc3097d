"""Whatever dies, in whatever order, over whatever store: afterwards MLflow holds each point once, and how it ended."""

import itertools
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.tracking import servers
from tests.tracking.processes import Trainings, find_run, has_ended, sidecar_of, state, wait_for
from tests.tracking.roads import Road
from tests.tracking.servers import Server

from pipeline.tracking import sidecar, sync_state
from pipeline.tracking.journal import Journal, metric_history

pytestmark = pytest.mark.slow


@pytest.fixture
def training(run_dir: Path) -> Iterator[Trainings]:
    with Trainings(run_dir) as started:
        yield started


@pytest.fixture(scope="session")
def plain_server(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("plain-server")
    (folder / "mlflow.db").write_bytes(migrated_database.read_bytes())
    with servers.plain_server(folder) as server:
        yield server


@pytest.fixture(params=["over sqlite", "over PostgreSQL"])
def server(request: pytest.FixtureRequest) -> Server:
    """One that may be killed: the next test finds it running."""
    if request.param == "over PostgreSQL":
        request.getfixturevalue("postgres_uri")  # for our name and password
    found: Server = request.getfixturevalue("plain_server" if request.param == "over sqlite" else "tracking_server")
    if found.process is None:
        found.start()
    return found


def is_all_there_once(uri: str, run_dir: Path, contents: Callable[[str], Any], status: str) -> bool:
    run = find_run(uri, run_dir)
    assert run.info.status == status
    stored = sorted(contents(uri).points(run.info.run_id, "loss"))
    assert stored == metric_history(run_dir / "journal.jsonl")["loss"] and len(stored) > 10
    return sync_state.read_sync_state(run_dir).complete


@pytest.mark.parametrize("order", list(itertools.permutations(["trainer", "sidecar", "server"])), ids=" ".join)
def test_after_kills_in_any_order_sync_sends_each_point_once_and_marks_the_run_killed(
    run_dir: Path, server: Server, training: Trainings, contents: Callable[[str], Any], order: tuple[str, ...]
) -> None:
    process = training(server.uri, steps=1_000_000)
    shipper = sidecar_of(process)
    wait_for(lambda: state(run_dir).get("metrics", 0) > 20)
    for victim in order:
        {"trainer": process.kill, "sidecar": shipper.kill, "server": server.kill}[victim]()
        time.sleep(0.5)
    process.wait()
    server.start()
    arrived = sidecar.sync_run(run_dir, uri=server.uri, artifacts=None, on_model=None)
    assert arrived.complete, arrived
    assert is_all_there_once(server.uri, run_dir, contents, "KILLED")


@pytest.mark.parametrize("order", list(itertools.permutations(["trainer", "sidecar", "client"])), ids=" ".join)
def test_after_kills_in_any_order_sync_completes_a_local_database_too(
    run_dir: Path, sqlite_uri: str, training: Trainings, contents: Callable[[str], Any], order: tuple[str, ...]
) -> None:
    process = training(sqlite_uri, steps=1_000_000)
    shipper = sidecar_of(process)
    wait_for(lambda: state(run_dir).get("metrics", 0) > 20)
    (client,) = shipper.children()
    for victim in order:
        {"trainer": process.kill, "sidecar": shipper.kill, "client": client.kill}[victim]()
        time.sleep(0.5)
    process.wait()
    assert sidecar.sync_run(run_dir, uri=sqlite_uri, artifacts=None, on_model=None).complete
    assert is_all_there_once(sqlite_uri, run_dir, contents, "KILLED")


def test_a_shared_client_killed_during_a_run_is_replaced(
    run_dir: Path, sqlite_uri: str, training: Trainings, contents: Callable[[str], Any]
) -> None:
    process = training(sqlite_uri, steps=1_000_000)
    shipper = sidecar_of(process)
    wait_for(lambda: state(run_dir).get("metrics", 0) > 20)
    (client,) = shipper.children()
    client.kill()
    time.sleep(0.5)
    (run_dir / "stop").touch()
    assert process.stdout is not None and process.stdout.read() == "True\n"
    assert is_all_there_once(sqlite_uri, run_dir, contents, "FINISHED")


def test_a_database_deleted_during_a_run_is_created_again_and_holds_the_whole_run(
    run_dir: Path, sqlite_uri: str, training: Trainings, contents: Callable[[str], Any]
) -> None:
    process = training(sqlite_uri, steps=1_000_000)
    sidecar_of(process)
    wait_for(lambda: state(run_dir).get("metrics", 0) > 20)
    for file in Path(sqlite_uri.removeprefix("sqlite:///")).parent.glob("mlflow.db*"):
        file.unlink()
    time.sleep(2)
    (run_dir / "stop").touch()
    assert process.stdout is not None and process.stdout.read() == "True\n"
    assert is_all_there_once(sqlite_uri, run_dir, contents, "FINISHED")


def test_a_server_killed_during_a_run_gets_the_rest_once_it_is_back(
    run_dir: Path, server: Server, training: Trainings, contents: Callable[[str], Any]
) -> None:
    process = training(server.uri, steps=1_000_000)
    sidecar_of(process)
    wait_for(lambda: state(run_dir).get("metrics", 0) > 20)
    server.kill()
    wait_for(lambda: state(run_dir).get("problem"))
    server.start()
    (run_dir / "stop").touch()
    assert process.stdout is not None and process.stdout.read() == "True\n"
    assert is_all_there_once(server.uri, run_dir, contents, "FINISHED")


def test_a_server_that_was_down_for_the_whole_run_gets_it_from_sync(
    run_dir: Path, server: Server, journal: Journal, begin: Callable[..., None], contents: Callable[[str], Any]
) -> None:
    server.kill()
    begin(journal)
    handle = sidecar.start_sidecar(run_dir, uri=server.uri, artifacts=None, on_model=None)
    for step in range(3_000):
        journal.metrics({"loss": step / 7, **{f"m{number}": 1.0 for number in range(9)}}, step=step)
    (run_dir / "result.json").write_text("{}")
    journal.artifact("result.json")
    journal.end("FAILED", error="ValueError: the loss is no number\nat step 3000")
    journal.close()
    left = handle.wait(2, for_model=True)
    assert (left.metrics_waiting, left.files_waiting, left.complete) == (30_000, 1, False)
    assert handle.process is not None
    handle.process.kill()
    handle.process.wait()
    server.start()
    assert sidecar.sync_run(run_dir, uri=server.uri, artifacts=None, on_model=None).complete
    assert is_all_there_once(server.uri, run_dir, contents, "FAILED")
    run = find_run(server.uri, run_dir)
    assert run.data.tags["error"] == "ValueError: the loss is no number\nat step 3000"
    assert contents(server.uri).files(run.info.run_id) == ["result.json"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_slow_server_gets_the_whole_run_whatever_ended_it(
    run_dir: Path, server: Server, training: Trainings, contents: Callable[[str], Any], number: signal.Signals
) -> None:
    road = Road(server.uri, "slow")
    process = training(road.uri, steps=1_000_000)
    shipper = sidecar_of(process)
    wait_for(lambda: state(run_dir).get("metrics", 0) > 20)
    process.send_signal(number)
    process.wait()
    wait_for(lambda: has_ended(shipper), timeout_seconds=120)
    road.close()
    assert is_all_there_once(server.uri, run_dir, contents, "KILLED")


def test_a_server_that_never_answers_delays_nothing_and_gets_the_run_once_it_does(
    run_dir: Path,
    server: Server,
    training: Trainings,
    contents: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    road = Road(server.uri, "absent")
    process = training(road.uri, steps=300)
    sidecar_of(process)
    wait_for(lambda: "timed out" in (state(run_dir).get("problem") or ""))
    assert process.stdout is not None
    road.become("healthy")
    assert process.stdout.read() == "True\n"
    road.close()
    assert is_all_there_once(server.uri, run_dir, contents, "FINISHED")
