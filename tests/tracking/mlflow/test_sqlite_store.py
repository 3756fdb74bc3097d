import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.tracking.processes import find_run, state, wait_for
from tests.tracking.servers import free_port

from pipeline.errors import UserError
from pipeline.tracking import sidecar
from pipeline.tracking.journal import Journal
from pipeline.tracking.mlflow import sqlite_store, ui_server

OF_3_4_0 = "71994744cf8e"  # the schema's revision there
RUN = "ffbed9d8bc734f0fb52413d39f8fe45f"
ROWS = f"""
INSERT INTO experiments VALUES (1, 'mnist5k', 'file:///tmp/old/files', 'active', 1795548622384, 1795548622384);
INSERT INTO runs (run_uuid, name, user_id, status, start_time, end_time, lifecycle_stage, artifact_uri, experiment_id)
    VALUES ('{RUN}', 'from before', '', 'FINISHED', 1795548622391, 1795548622457, 'active', 'file:///tmp/old/a', 1);
INSERT INTO metrics VALUES ('val/accuracy', 0.97, 1795548622435, '{RUN}', 3, 0);
INSERT INTO latest_metrics VALUES ('val/accuracy', 0.97, 1795548622435, 3, 0, '{RUN}');
"""


@pytest.fixture(scope="module")
def made_by_an_older_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one finished run, as MLflow 3.4.0 made it: by its own migrations, up to the one of that version."""
    import mlflow
    from alembic import command
    from alembic.config import Config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    database = tmp_path_factory.mktemp("old") / "mlflow.db"
    config, engine = Config(), create_engine(f"sqlite:///{database}")
    config.set_main_option("script_location", str(Path(mlflow.__file__).parent / "store/db_migrations"))
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, OF_3_4_0)
    engine.dispose()
    with closing(sqlite3.connect(database)) as store:
        store.executescript(ROWS)
    return database


@pytest.fixture
def old_store(tmp_path: Path, made_by_an_older_mlflow: Path) -> Path:
    return Path(shutil.copy(made_by_an_older_mlflow, tmp_path / "mlflow.db"))


@pytest.mark.slow
def test_an_old_database_is_not_touched_until_asked_and_then_upgraded_with_a_backup(
    run_dir: Path, old_store: Path, journal: Journal, begin: Callable[..., None], contents: Callable[[str], Any]
) -> None:
    uri, before = f"sqlite:///{old_store}", old_store.read_bytes()
    begin(journal)
    for step in range(20):
        journal.metrics({"loss": float(step)}, step=step)
    journal.end("FINISHED")
    journal.close()
    handle = sidecar.start_sidecar(run_dir, uri=uri, artifacts=None, on_model=None)
    wait_for(lambda: state(run_dir).get("problem"))
    left = handle.wait(0.1, for_model=True)
    assert not left.complete and left.problem is not None
    assert "`pipeline sync run=all upgrade=true` upgrades it, keeps a backup" in left.problem
    assert handle.process is not None
    handle.process.kill()
    handle.process.wait()
    with pytest.raises(UserError, match="upgrade=true"):
        ui_server.serve_ui(uri, None, free_port())
    assert old_store.read_bytes() == before

    backup = sqlite_store.upgrade_database(uri)
    assert backup is not None and backup.parent == old_store.parent
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (OF_3_4_0,)
    assert sqlite_store.upgrade_database(uri) is None
    assert sidecar.sync_run(run_dir, uri=uri, artifacts=None, on_model=None).complete
    new = find_run(uri, run_dir)
    assert len(contents(uri).points(new.info.run_id, "loss")) == 20
    with closing(sqlite3.connect(old_store)) as connection:
        (old_run,) = connection.execute("SELECT run_uuid FROM runs WHERE name = 'from before'").fetchone()
    assert contents(uri).points(old_run, "val/accuracy") == [(3, 0.97)]


@pytest.mark.slow
def test_a_database_that_mlflow_cannot_upgrade_is_unchanged(old_store: Path) -> None:
    with closing(sqlite3.connect(old_store)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of a later one'")
        connection.commit()
    before = old_store.read_bytes()
    with pytest.raises(UserError, match="newer version"):
        sqlite_store.upgrade_database(f"sqlite:///{old_store}")
    assert old_store.read_bytes() == before
    assert sorted(path.name for path in old_store.parent.glob("*mlflow*")) == ["mlflow.db", "mlflow.db.lock"]


def test_a_servers_database_is_not_upgraded_from_here() -> None:
    with pytest.raises(UserError, match="upgraded on that server"):
        sqlite_store.upgrade_database("https://mlflow.example")
    assert sqlite_store.upgrade_database("sqlite:////nowhere/mlflow.db") is None
