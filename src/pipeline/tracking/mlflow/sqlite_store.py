"""A sqlite database as MLflow store: created so that many runs can start at once, upgraded on request.

MLflow itself creates and migrates in place whatever it opens, which breaks the database for good when several
processes do it at once, and changes a database of an older version without a word and without a backup.
"""

import importlib.util
import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from pipeline.errors import UserError
from pipeline.system.files import file_lock, sync_folder
from pipeline.tracking import tracking_uri
from pipeline.tracking.mlflow.mlflow_client import quiet_mlflow
from pipeline.tracking.tracking_uri import sqlalchemy_url


def create_if_missing(database: Path, artifact_root: str | None) -> None:
    """Create the database as a whole, in WAL mode, in one process while others wait."""
    if database.exists():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(database.with_name(f"{database.name}.lock")):
        if not database.exists():
            _create(database, artifact_root)


def _create(database: Path, artifact_root: str | None) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    unfinished = database.with_name(f".{database.name}.unfinished")
    for leftover in (unfinished, *unfinished.parent.glob(f"{unfinished.name}-*")):
        leftover.unlink(missing_ok=True)  # of a process that died here
    store = SqlAlchemyStore(sqlalchemy_url(unfinished), artifact_root)  # type: ignore[no-untyped-call]
    store.engine.dispose()
    connection = sqlite3.connect(unfinished)
    # Readers and the writer do not block each other, which doubles the throughput of eight runs at once.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()  # the last one to close folds the write-ahead log into the file
    os.replace(unfinished, database)
    sync_folder(database.parent)


LINES_SHOWN = 3


def upgrade_hint(database: Path | None) -> str | None:
    """Return what to do about a database with another schema than the installed MLflow's; None for one that fits."""
    if database is None or not database.exists():
        return None
    revision, newest = _revision(database), _newest_revision()
    if revision is None or newest is None or revision == newest:
        return None
    return (
        f"{database} was made by another version of MLflow. `pipeline sync run=all upgrade=true` upgrades it, keeps a "
        "backup beside it, and sends what has been waiting in the runs' journals"
    )


def upgrade_database(uri: str) -> Path | None:
    """Upgrade a database and return its backup; None where there is nothing to upgrade.

    A copy is upgraded and replaces the database as a whole. Raises UserError, and then nothing has changed.
    """
    database = tracking_uri.sqlite_file(uri)
    if database is None:
        raise UserError(
            "upgrade=true is for a database file on this machine; a server's database is upgraded on that server"
        )
    if upgrade_hint(database) is None:
        return None
    with file_lock(database.with_name(f"{database.name}.lock")):
        backup = database.with_name(f"{database.stem}.before-{time.strftime('%Y%m%d-%H%M%S')}{database.suffix}")
        upgraded = database.with_name(f".{database.name}.upgraded")
        upgraded.unlink(missing_ok=True)  # of a process that was killed here
        try:
            _copy(database, upgraded)
            _migrate(upgraded)
            _copy(database, backup)
            os.replace(upgraded, database)
            for leftover in ("-wal", "-shm"):  # of the old database, whose content has all been copied
                database.with_name(database.name + leftover).unlink(missing_ok=True)
            sync_folder(database.parent)
        finally:
            upgraded.unlink(missing_ok=True)
    return backup


def _migrate(database: Path) -> None:
    quiet_mlflow()
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", tracking_uri.sqlalchemy_url(database)]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if result.returncode != 0:
        reason = "\n".join(result.stderr.strip().splitlines()[-LINES_SHOWN:])
        raise UserError(
            f"MLflow cannot upgrade the store (was it made by a newer version?); it is as it was:\n{reason}"
        )
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def _copy(source: Path, target: Path) -> None:
    """Copy by sqlite itself, which includes the write-ahead log and allows others to write meanwhile."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def _revision(database: Path) -> str | None:
    with closing(sqlite3.connect(database)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.DatabaseError:  # no such table, or no database: not MLflow's, or damaged
            return None
    return None if row is None else str(row[0])


def _newest_revision() -> str | None:
    """Return the schema revision of the installed MLflow, the one that no other follows.

    Its scripts are read, not run: alembic's ScriptDirectory would import all of MLflow, for 7 s.
    """
    package = importlib.util.find_spec("mlflow")
    assert package is not None and package.origin is not None
    scripts = Path(package.origin).parent.glob("store/db_migrations/versions/*.py")
    text = "\n".join(path.read_text(encoding="utf-8") for path in scripts)
    known, followed = (
        {
            revision
            for line in re.findall(rf"^{name}\b.*=(.*)$", text, re.MULTILINE)
            for revision in re.findall(r"\w{6,}", line)
        }
        for name in ("revision", "down_revision")
    )
    newest = known - followed
    return newest.pop() if len(newest) == 1 else None
