"""Real stores for the tests of tracking: a sqlite database made once and copied, and one MLflow server over REST."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.tracking import servers
from tests.tracking.servers import Server, free_port

from pipeline.tracking.journal import Journal
from pipeline.tracking.mlflow import sqlite_store
from pipeline.tracking.mlflow.mlflow_client import mlflow_client, quiet_mlflow

SERVE = """# warm
import sys
from pipeline.tracking.mlflow.ui_server import serve_ui
sys.exit(serve_ui(sys.argv[1], None, int(sys.argv[2])))
"""


@dataclass(frozen=True)
class Contents:
    """What MLflow holds, read with its own client."""

    uri: str

    def run(self, run_id: str) -> Any:
        return mlflow_client(self.uri).get_run(run_id)

    def points(self, run_id: str, name: str) -> list[tuple[int, float]]:
        """(step, value) of every stored point, doubled ones included."""
        return [(point.step, point.value) for point in mlflow_client(self.uri).get_metric_history(run_id, name)]

    def files(self, run_id: str, folder: str | None = None) -> list[str]:
        return [file.path for file in mlflow_client(self.uri).list_artifacts(run_id, folder)]


@pytest.fixture
def contents() -> type[Contents]:
    """Opens a store by its address to see what is in it: `contents(uri).points(run_id, "loss")`."""
    return Contents


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    quiet_mlflow()
    database = tmp_path_factory.mktemp("template") / "mlflow.db"
    sqlite_store.create_if_missing(database, (database.parent / "mlartifacts").as_uri())
    return database


@pytest.fixture
def sqlite_uri(migrated_database: Path, tmp_path: Path) -> str:
    shutil.copy(migrated_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture(scope="session")
def server_uri(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(migrated_database, folder / "mlflow.db")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, f"sqlite:///{folder}/mlflow.db", str(port)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
    assert server.stdout is not None and server.stdout.readline().startswith(f"http://127.0.0.1:{port}/#/")
    yield f"http://127.0.0.1:{port}"
    server.send_signal(signal.SIGINT)
    assert server.wait(20) == 0


@pytest.fixture(scope="session")
def tracking_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers.tracking_server(tmp_path_factory.mktemp("tracking-server")) as server:
        yield server


@pytest.fixture
def postgres_uri(tracking_server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """MLflow over PostgreSQL and S3, as docs/tracking-server.md sets it up, our password in the environment."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", servers.ADMIN)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", servers.PASSWORD)
    return tracking_server.uri


@pytest.fixture(params=["sqlite", "server", pytest.param("postgres", marks=pytest.mark.slow)])
def uri(request: pytest.FixtureRequest) -> str:
    """Every test that takes it runs against a database, a server over one, and a server over PostgreSQL and S3."""
    return str(request.getfixturevalue(f"{request.param}_uri"))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / f"run-{os.urandom(3).hex()}"
    folder.mkdir()
    return folder


@pytest.fixture
def journal(run_dir: Path) -> Iterator[Journal]:
    opened = Journal(run_dir / "journal.jsonl")
    yield opened
    opened.close()


@pytest.fixture
def begin() -> Callable[..., None]:
    """Writes the start of a run into its journal: `begin(journal, **params)`."""

    def write_start(journal: Journal, **params: Any) -> None:
        uid = journal.path.parent.name
        journal.start(name="cnn", experiment="digits", run_uid=uid, params=params, tags={"device": "cpu"})

    return write_start
