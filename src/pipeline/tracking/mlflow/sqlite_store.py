"""An MLflow store on this machine: a sqlite database, made so that many runs can start at once."""

import os
import sqlite3
from pathlib import Path

from pipeline.system.files import file_lock, sync_folder
from pipeline.tracking.tracking_uri import SQLITE


def url(database: Path) -> str:
    """The database's address as SQLAlchemy reads it: from 2.1 on `%` and `?` in a path have to be escaped."""
    from sqlalchemy.engine import URL, make_url

    plain = f"{SQLITE}{database}"  # escaped only where needed: MLflow takes it for a path here and there
    if make_url(plain).database == str(database):
        return plain
    return URL.create("sqlite", database=str(database)).render_as_string()


def prepare(database: Path, artifact_root: str | None) -> None:
    """Makes the database if it is not there yet: whole, in WAL mode, by one process while the others wait.

    MLflow's own way, to migrate in place whatever it opens, breaks the database for good when several do it at once.
    """
    if database.exists():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(database.with_name(f"{database.name}.lock")):
        if not database.exists():
            _make(database, artifact_root)


def _make(database: Path, artifact_root: str | None) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    unfinished = database.with_name(f".{database.name}.unfinished")
    for leftover in (unfinished, *unfinished.parent.glob(f"{unfinished.name}-*")):
        leftover.unlink(missing_ok=True)  # of a process that died here
    store = SqlAlchemyStore(url(unfinished), artifact_root)  # type: ignore[no-untyped-call]
    store.engine.dispose()
    connection = sqlite3.connect(unfinished)
    # Readers and the writer do not block each other, which doubles the throughput of eight runs at once.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()  # the last one to close folds the write-ahead log into the file
    os.replace(unfinished, database)
    sync_folder(database.parent)
