"""A local store made by an older MLflow, brought to the schema of the installed one: on request, with a backup."""

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
from pipeline.tracking.mlflow import sqlite_store
from pipeline.tracking.mlflow.mlflow_errors import quieten

LINES_SHOWN = 3


def needed(database: Path | None) -> str | None:
    """What to do about a database with another schema than the installed MLflow's; None for one that fits.

    Left to itself MLflow would change it on the spot, without a word and without a backup.
    """
    if database is None or not database.exists():
        return None
    found, newest = _revision(database), _newest_revision()
    if found is None or newest is None or found == newest:
        return None
    return (
        f"{database} was made by another version of MLflow. `pipeline sync run=all upgrade=true` upgrades it, keeps a "
        "backup beside it, and brings what waits in the runs' journals meanwhile"
    )


def upgrade(uri: str) -> Path | None:
    """Returns the backup; None where there is nothing to upgrade. Raises UserError, and then nothing has changed.

    A copy is upgraded and takes the old one's place as a whole, so that an upgrade that breaks off harms nothing.
    """
    database = tracking_uri.sqlite_file(uri)
    if database is None:
        raise UserError("upgrade=true is for a database file on this machine; a server's own is upgraded there")
    if needed(database) is None:
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
            for leftover in ("-wal", "-shm"):  # of the old one; all that was in it has been copied
                database.with_name(database.name + leftover).unlink(missing_ok=True)
            sync_folder(database.parent)
        finally:
            upgraded.unlink(missing_ok=True)
    return backup


def _migrate(database: Path) -> None:
    quieten()
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", sqlite_store.url(database)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-LINES_SHOWN:])
        raise UserError(f"MLflow cannot upgrade the store (was it made by a newer version?); it is as it was:\n{said}")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def _copy(source: Path, target: Path) -> None:
    """sqlite's own copy: what is still in the write-ahead log comes along, whoever writes meanwhile."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def _revision(database: Path) -> str | None:
    with closing(sqlite3.connect(database)) as connection:
        try:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.DatabaseError:  # no such table, or no database: no store of MLflow's, or a broken one
            return None
    return None if found is None else str(found[0])


def _newest_revision() -> str | None:
    """Return the revision of the installed MLflow, the one that no other follows.

    Its scripts are read and not run: alembic's ScriptDirectory would import all of MLflow, for 7 s.
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
