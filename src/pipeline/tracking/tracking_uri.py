"""Addresses of tracking stores, told apart without mlflow, and texts and logs without the passwords in them.

An address is `sqlite:///path`, `postgresql://...`, `http(s)://...` or any other that MLflow takes.
"""

import logging
import re
from pathlib import Path

from pipeline.system.streams import printable

SQLITE = "sqlite:///"
# To the last @: a password may hold any character where it is not escaped as an address demands.
USER_AND_PASSWORD = re.compile(r"(?<=://)[^/\s]\S*@")
SECRET = r"passw|pwd|token|secret|credential|api[_-]?key|access[_-]?key|account[_-]?key|signature|\bsig\b"
SECRET_VALUE = re.compile(rf"([?&;][\w.-]*(?:{SECRET})[\w.-]*=|password=)[^&;\s'\"]+", re.IGNORECASE)


def absolute_uri(uri: str) -> str:
    """Return the address with an absolute sqlite path: processes that share it may differ in working directory."""
    database = sqlite_file(uri)
    return uri if database is None else f"{SQLITE}{database}"


def sqlite_file(uri: str) -> Path | None:
    """Return the absolute path of a sqlite store's database; None for any other store."""
    return Path(uri.removeprefix(SQLITE)).absolute() if uri.startswith(SQLITE) else None


def sqlalchemy_url(database: Path) -> str:
    """Return a sqlite database's address as SQLAlchemy reads it: from 2.1 on `%` and `?` in a path are escaped."""
    from sqlalchemy.engine import URL, make_url

    unescaped = f"{SQLITE}{database}"  # escaped only where needed: MLflow takes it for a path in some places
    if make_url(unescaped).database == str(database):
        return unescaped
    return URL.create("sqlite", database=str(database)).render_as_string()


def is_server(uri: str) -> bool:
    """Tell whether an MLflow server answers at this address: it has pages of its own and keeps the files."""
    return uri.startswith(("http://", "https://"))


def artifact_root(uri: str, artifacts: str | None) -> str | None:
    """Return the URI below which a store without a server keeps the files of new experiments.

    That is `artifacts` (a folder or a URI), or a folder beside a sqlite database; None where the store decides.
    """
    database = sqlite_file(uri)
    if artifacts is None and database is not None:
        artifacts = str(database.parent / "mlartifacts")
    if artifacts is None or is_server(uri):
        return None
    return artifacts if "://" in artifacts else Path(artifacts).absolute().as_uri()


def redact(text: str) -> str:
    """Return an address, or any text with addresses in it, without users and passwords, fit for a file or a log."""
    return SECRET_VALUE.sub(r"\1***", USER_AND_PASSWORD.sub("***@", text))


class RedactingFormatter(logging.Formatter):
    """Formats without passwords and escape sequences: mlflow writes whole addresses into messages and tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the redacted message."""
        return printable(redact(super().format(record)))


def log_to_stderr_redacted() -> None:
    """Set up the log of a process that sends to MLflow."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.captureWarnings(True)
