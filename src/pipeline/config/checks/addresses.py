"""Check that addresses in a configuration are valid, and hold no password that would be stored with a run.

An error about an address that may hold a password does not show it.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pipeline.config.suggestions import did_you_mean, nearest_names
from pipeline.errors import ConfigError

SERVERS = ("http", "https")
DATABASES = ("postgresql", "mysql", "mssql")
STORES = (*SERVERS, "sqlite", *DATABASES)
ARTIFACT_SCHEMES = (
    "file",
    "s3",
    "gs",
    "wasbs",
    "abfss",
    "hdfs",
    "viewfs",
    "dbfs",
    "sftp",
    "ftp",
    "r2",
    "mlflow-artifacts",
)
SECRET = (
    r"[\w-]*(?:passw|pwd|token|secret|credential|api[_-]?key|access[_-]?key|account[_-]?key|signature|\bsig\b)[\w-]*"
)
# A name in a query, and a variable set in a line of shell; one that is set from another variable is no secret.
IN_QUERY = re.compile(rf"[?&;]{SECRET}=", re.IGNORECASE)
IN_SHELL = re.compile(rf"(?<![\w.?&]){SECRET}=(?![$\s]|$)\S", re.IGNORECASE)
SECRET_NAME = re.compile(SECRET, re.IGNORECASE)
USER_AND_PASSWORD = re.compile(r"://[^/\s]*:[^\s]*@")
SECRET_REMEDIES = {
    "http": "leave it out (https://HOST), and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
    "MLFLOW_TRACKING_TOKEN, or write mlflow_tracking_username and mlflow_tracking_password under [mlflow] in "
    "~/.mlflow/credentials",
    "postgresql": "leave it out (postgresql://USER@HOST/DATABASE), and set PGPASSWORD, or write it to ~/.pgpass",
    "launch.environment": "name a secret of the cluster in launch.secrets",
    "": "put it into a variable of the environment and name that, '{key}=${{oc.env:NAME}}'",
}
VARIABLE = r"\$\{oc\.env:\s*(\w+)[^{}]*\}"
# {beginning of a key: remedy}: our launchers write these keys into a script, a manifest or a command.
VARIABLE_REMEDIES = {
    "launch.setup": "write ${name}, which the shell of the job fills in: sbatch hands the variables on",
    "launch.environment": "name a secret of the cluster, 'launch.secrets={{{name}: my-secret/my-key}}'",
    "": 'type the value itself, {key}="{typed}"',
}


def check_store_address(key: str, address: str) -> None:
    """Raise ConfigError for what is no address of a tracking store or of the storage of a search."""
    scheme, _, rest = address.partition("://")
    kind = scheme.partition("+")[0]
    if not rest or kind not in STORES:
        meant = (
            [f"{key}={each}://{rest}" for each in nearest_names(kind, STORES)] if rest and _is_plain(address) else []
        )
        raise ConfigError(
            f"{key}={_shown(address)}: expected an address that begins with one of "
            f"{', '.join(f'{each}://' for each in STORES)}{did_you_mean(meant)}"
        )
    if kind == "sqlite":
        if not re.match(r"sqlite(\+\w+)?:///[^/?\s]|sqlite(\+\w+)?:////", address):
            raise ConfigError(
                f"{key}={_shown(address)}: expected a file behind three slashes, sqlite:///FOLDER/FILE.db"
            )
        return
    problem = _problem(address)
    if problem is not None:
        example = "http://HOST:5000" if kind in SERVERS else "postgresql://USER@HOST/DATABASE"
        raise ConfigError(f"{key}={_shown(address)}: {problem}; expected such as {key}={example}")


def check_addresses(config: dict[str, Any]) -> None:
    """Check the addresses of the tracking store; those from the environment must be filled in."""
    tracking = config.get("tracking") or {}
    uri, artifacts = tracking.get("uri"), tracking.get("artifacts")
    if isinstance(uri, str):
        check_store_address("tracking.uri", uri)
    if isinstance(artifacts, str) and "://" in artifacts:
        scheme = artifacts.partition("://")[0]
        if scheme not in (*ARTIFACT_SCHEMES, *SERVERS):
            meant = [f"{each}://" for each in nearest_names(scheme, ARTIFACT_SCHEMES)]
            raise ConfigError(f"tracking.artifacts={_shown(artifacts)}: {scheme}:// is not known{did_you_mean(meant)}")


def check_secrets(config: dict[str, Any]) -> None:
    """Raise ConfigError for a password in the values that are written to the run directory and sent to MLflow."""
    for key, value in _texts(config, ""):
        if any(_found(key, value)):
            instead = next(
                text for start, text in SECRET_REMEDIES.items() if value.startswith(start) or key.startswith(start)
            )
            raise ConfigError(
                f"{key} holds a user, a password or a token, which would be kept in the run directory; "
                f"{instead.format(key=key)}"
            )


def check_launch_variables(config: dict[str, Any]) -> None:
    """Raise ConfigError for a variable whose value one of our launchers would write to a file."""
    launch = config.get("launch")
    if not isinstance(launch, dict) or not str(launch.get("_target_")).startswith("pipeline."):
        return
    for key, text in _texts(launch, "launch"):
        for name in re.findall(VARIABLE, text):
            typed = re.sub(VARIABLE, r"${\1}", re.sub(rf"\$\{{oc\.decode:({VARIABLE})\}}", r"\1", text))
            instead = next(remedy for start, remedy in VARIABLE_REMEDIES.items() if key.startswith(start))
            raise ConfigError(
                f"{key} is {text}, and its value would be written to a file when the run is launched; "
                f"{instead.format(key=key, name=name, typed=typed)}"
            )


def _texts(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield (key, text) of all texts below a node."""
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        key = f"{path}.{name}" if path else str(name)
        if isinstance(value, dict | list):
            yield from _texts(value, key)
        elif isinstance(value, str):
            yield key, value


def _found(key: str, text: str) -> Iterator[bool]:
    literal = re.sub(r"\$\{oc\.\w+:[^{}]*\}", "", text)
    is_server = text.startswith(tuple(f"{each}://" for each in SERVERS))
    yield USER_AND_PASSWORD.search(literal) is not None
    yield IN_QUERY.search(literal) is not None
    yield is_server and "@" in literal
    yield key.startswith("launch.") and IN_SHELL.search(literal) is not None
    yield key.startswith("launch.environment.") and bool(literal) and SECRET_NAME.search(key) is not None


def _problem(address: str) -> str | None:
    if re.search(r"[\s\x00-\x1f\x7f\\\"'<>]", address):
        return "it holds a blank or another character that is not allowed in an address"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return "its host or port cannot be read; write @, / and : in a password as %40, %2F and %3A"
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":
        return "there is an @ after the host; write @, / and : in a password as %40, %2F and %3A"
    if port == 0:
        return "0 is not a valid port"
    if not _is_host(parts):
        return "there is no host in it"
    return None


def _is_host(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    return bool(re.fullmatch(r"[\w.\-]+|[0-9a-f:.%]+", host, re.IGNORECASE)) or parts.scheme in DATABASES


def _is_plain(address: str) -> bool:
    return "@" not in address and "?" not in address


def _shown(address: str) -> str:
    return address if _is_plain(address) else f"{address.partition('://')[0]}://***"
