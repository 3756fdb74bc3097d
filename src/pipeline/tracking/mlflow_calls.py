"""How mlflow is imported and called: quietly, without its own long retries, and with our errors."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.errors import TrackingError
from pipeline.tracking import address, sqlite_store
from pipeline.tracking.address import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",  # its loggers then obey ours
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # by default an absent server is asked for minutes: we come again
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # seconds
    "GIT_PYTHON_REFRESH": "quiet",
}
# 401 and 403: credentials can be mended while a run goes on; 408 and 429: later.
PASSING_STATUSES = (401, 403, 408, 429)


class Unavailable(TrackingError):
    """The store does not answer or cannot work now: the same may succeed later."""


class Refused(TrackingError):
    """The store will never take this, however often it is offered."""


class RunGone(TrackingError):
    """The run was deleted in MLflow, or the store is a new one."""


def quieten() -> None:
    """To be called before mlflow is imported. What the user has set in the environment stays."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).addHandler(logging.NullHandler())  # else Python prints their warnings to stderr


def client_of(uri: str) -> "MlflowClient":
    """For an address as our users write it, in which a sqlite path may be relative and hold any character."""
    from mlflow import MlflowClient

    database = address.sqlite_file(uri)
    return MlflowClient(tracking_uri=uri if database is None else sqlite_store.url(database))


def status_of(error: "MlflowException") -> int:
    """As HTTP would say it, whatever the store is."""
    return int(error.get_http_status_code())  # type: ignore[no-untyped-call]


@contextmanager
def translated() -> Iterator[None]:
    """mlflow's errors, and those of what it stands on, as Refused or Unavailable."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        status = status_of(error)
        if 400 <= status < 500 and status not in PASSING_STATUSES:
            raise Refused(redacted(str(error))) from error
        raise Unavailable(redacted(str(error))) from error
    except OSError as error:  # the network's (requests' errors are among them) and the file system's
        raise Unavailable(redacted(str(error))) from error
