"""MLflow's own client, used quietly, without its own long retries, and with our errors."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.errors import TrackingError
from pipeline.system.streams import printable
from pipeline.tracking import tracking_uri
from pipeline.tracking.tracking_uri import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",  # its loggers then obey ours
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # by default an absent server is tried for minutes: we retry ourselves
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # seconds
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",  # a redirect leads to another server than the user named
    "GIT_PYTHON_REFRESH": "quiet",
}
MAX_ANSWER_BYTES = 64 << 20  # of an answer to mlflow's own client
ANSWER_SECONDS = 120
MAX_MESSAGE_LENGTH = 2_000  # characters
# 401 and 403: credentials can be corrected during a run; 408 and 429: later.
TEMPORARY_STATUSES = (401, 403, 408, 429)


class Unavailable(TrackingError):
    """The store does not answer or cannot work now: the same call may succeed later."""


class Refused(TrackingError):
    """The store will never accept this, however often it is sent."""


class RunGone(TrackingError):
    """The run was deleted in MLflow, or the store is a new one."""


def quiet_mlflow() -> None:
    """Set the environment for mlflow; call it before mlflow is imported. What the user has set stays."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).addHandler(logging.NullHandler())  # else Python prints their warnings to stderr


def mlflow_client(uri: str) -> "MlflowClient":
    """Return a client for an address as users write it: a sqlite path may be relative and hold any character."""
    from mlflow import MlflowClient

    if tracking_uri.is_server(uri):
        _bound_answers()
    database = tracking_uri.sqlite_file(uri)
    address = uri if database is None else tracking_uri.sqlalchemy_url(database)
    return MlflowClient(tracking_uri=address, registry_uri=address)  # else MLFLOW_REGISTRY_URI decides about models


def _bound_answers() -> None:
    """Limit how much of an answer requests, below mlflow's client, reads: it would read until memory is full."""
    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import ProtocolError

    if getattr(HTTPAdapter.build_response, "is_bounded", False):
        return
    build = HTTPAdapter.build_response

    def bounded(self: Any, request: Any, answer: Any) -> Any:
        stream = answer.stream
        deadline = time.monotonic() + ANSWER_SECONDS

        def pieces(*arguments: Any, **named: Any) -> Iterator[bytes]:
            count = 0
            for piece in stream(*arguments, **named):
                count += len(piece)
                if count > MAX_ANSWER_BYTES or time.monotonic() > deadline:
                    answer.close()
                    raise ProtocolError(
                        f"the answer does not end within {MAX_ANSWER_BYTES:,} bytes and {ANSWER_SECONDS} s"
                    )
                yield piece

        answer.stream = pieces
        return build(self, request, answer)

    bounded.is_bounded = True  # type: ignore[attr-defined]
    HTTPAdapter.build_response = bounded  # type: ignore[method-assign,assignment]


def http_status(error: "MlflowException") -> int:
    """Return the HTTP status that stands for the error, whatever the store is."""
    return int(error.get_http_status_code())  # type: ignore[no-untyped-call]


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise Refused or Unavailable in place of the errors of mlflow and of the libraries below it."""
    from google.protobuf.json_format import Error as ProtobufError
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        status = http_status(error)
        if 400 <= status < 500 and status not in TEMPORARY_STATUSES:
            raise Refused(_message(error)) from error
        raise Unavailable(_message(error)) from error
    except OSError as error:  # the network's (requests' errors are among them) and the file system's
        raise Unavailable(_message(error)) from error
    except (ProtobufError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        # MLflow's client takes a server's answer apart as if it were its own.
        reason = f"{type(error).__name__}: {_message(error)}"
        raise Unavailable(f"MLflow's client does not understand the answer ({reason})") from error


def _message(error: Exception) -> str:
    return printable(redact(str(error)[:MAX_MESSAGE_LENGTH]))
