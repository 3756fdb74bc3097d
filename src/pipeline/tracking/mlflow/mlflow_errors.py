"""How mlflow is imported and called: quietly, without its own long retries, and with our errors."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.errors import TrackingError
from pipeline.system.streams import printable
from pipeline.tracking import tracking_uri
from pipeline.tracking.mlflow import sqlite_store
from pipeline.tracking.tracking_uri import redacted

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
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",  # a server that sends us elsewhere is not the one that was named
    "GIT_PYTHON_REFRESH": "quiet",
}
# 401 and 403: credentials can be mended while a run goes on; 408 and 429: later.
MOST_BYTES = 64 << 20  # of an answer to mlflow's own client
ANSWER_SECONDS = 120
LONGEST_SAID = 2_000  # characters
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

    if tracking_uri.is_server(uri):
        _bound_answers()
    database = tracking_uri.sqlite_file(uri)
    named = uri if database is None else sqlite_store.url(database)
    return MlflowClient(tracking_uri=named, registry_uri=named)  # else MLFLOW_REGISTRY_URI chooses where models go


def _bound_answers() -> None:
    """What requests, below mlflow's client, reads of an answer: it takes whatever comes, until memory is at its end."""
    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import ProtocolError

    if getattr(HTTPAdapter.build_response, "is_bounded", False):
        return
    build = HTTPAdapter.build_response

    def bounded(self: Any, request: Any, answer: Any) -> Any:
        stream = answer.stream
        deadline = time.monotonic() + ANSWER_SECONDS

        def pieces(*arguments: Any, **named: Any) -> Iterator[bytes]:
            have = 0
            for piece in stream(*arguments, **named):
                have += len(piece)
                if have > MOST_BYTES or time.monotonic() > deadline:
                    answer.close()
                    raise ProtocolError(f"the answer does not end within {MOST_BYTES:,} bytes and {ANSWER_SECONDS} s")
                yield piece

        answer.stream = pieces
        return build(self, request, answer)

    bounded.is_bounded = True  # type: ignore[attr-defined]
    HTTPAdapter.build_response = bounded  # type: ignore[method-assign,assignment]


def status_of(error: "MlflowException") -> int:
    """As HTTP would say it, whatever the store is."""
    return int(error.get_http_status_code())  # type: ignore[no-untyped-call]


@contextmanager
def translated() -> Iterator[None]:
    """mlflow's errors, and those of what it stands on, as Refused or Unavailable."""
    from google.protobuf.json_format import Error as ProtobufError
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        status = status_of(error)
        if 400 <= status < 500 and status not in PASSING_STATUSES:
            raise Refused(_said(error)) from error
        raise Unavailable(_said(error)) from error
    except OSError as error:  # the network's (requests' errors are among them) and the file system's
        raise Unavailable(_said(error)) from error
    except (ProtobufError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        # MLflow's client takes a server's answer apart as if it were its own.
        what = f"{type(error).__name__}: {_said(error)}"
        raise Unavailable(f"MLflow's client does not understand the answer ({what})") from error


def _said(error: Exception) -> str:
    return printable(redacted(str(error)[:LONGEST_SAID]))
