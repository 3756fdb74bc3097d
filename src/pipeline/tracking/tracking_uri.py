"""Where a tracking store is: `sqlite:///path`, `postgresql://...`, `http(s)://...`, told apart without mlflow."""

import re
from pathlib import Path

SQLITE = "sqlite:///"
# To the last @: a password may hold any character, if it is not written as an address asks for.
USER_AND_PASSWORD = re.compile(r"(?<=://)[^/\s]\S*@")
SECRET = r"passw|pwd|token|secret|credential|api[_-]?key|access[_-]?key|account[_-]?key|signature|\bsig\b"
SECRET_VALUE = re.compile(rf"([?&;][\w.-]*(?:{SECRET})[\w.-]*=|password=)[^&;\s'\"]+", re.IGNORECASE)


def absolute(uri: str) -> str:
    """A relative sqlite path made absolute: the processes that use it need not share a working directory."""
    database = sqlite_file(uri)
    return uri if database is None else f"{SQLITE}{database}"


def sqlite_file(uri: str) -> Path | None:
    """The absolute path of a sqlite store's database; None for any other store."""
    return Path(uri.removeprefix(SQLITE)).absolute() if uri.startswith(SQLITE) else None


def is_server(uri: str) -> bool:
    """Whether an MLflow server answers at this address, which then has a page of its own and keeps the files."""
    return uri.startswith(("http://", "https://"))


def artifact_root(uri: str, artifacts: str | None) -> str | None:
    """Where a store without a server keeps the files of new experiments, as a URI; None where that is not ours to say.

    That is `artifacts` (a folder or a URI), or a folder beside a sqlite database.
    """
    database = sqlite_file(uri)
    if artifacts is None and database is not None:
        artifacts = str(database.parent / "mlartifacts")
    if artifacts is None or is_server(uri):
        return None
    return artifacts if "://" in artifacts else Path(artifacts).absolute().as_uri()


def redacted(text: str) -> str:
    """An address, or any text with addresses in it, without their users and passwords: fit for a file or a log."""
    return SECRET_VALUE.sub(r"\1***", USER_AND_PASSWORD.sub("***@", text))
