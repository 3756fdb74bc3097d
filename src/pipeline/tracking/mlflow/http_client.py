"""HTTP requests to one server over one open connection, in 20 MB; MLflow's own client takes 170 MB."""

import base64
import configparser
import http.client
import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from pipeline.system.files import ContentError, parse_json
from pipeline.system.json_shape import find_mismatch
from pipeline.system.streams import printable
from pipeline.tracking.mlflow.mlflow_client import TEMPORARY_STATUSES, Refused, Unavailable
from pipeline.tracking.tracking_uri import redact

CREDENTIALS_FILE = Path("~/.mlflow/credentials")
USERNAME, PASSWORD, TOKEN = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"
REMEDY = f"set {USERNAME} and {PASSWORD} (or {TOKEN}), or write the first two, in small letters, to {CREDENTIALS_FILE}"


def authorization(uri: str, environment: Mapping[str, str]) -> str | None:
    """Return the Authorization header, by the same rules as MLflow's own client; None without credentials.

    A user and a password in the address win: that is how other programs hand them over.
    """
    parts = urlsplit(uri)
    in_file = _credentials_file()
    user = environment.get(USERNAME) or in_file.get(USERNAME.lower())
    password = environment.get(PASSWORD) or in_file.get(PASSWORD.lower())
    if parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
    if user and password is not None:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    token = environment.get(TOKEN)
    return f"Bearer {token}" if token else None


def _credentials_file() -> Mapping[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(os.path.expanduser(CREDENTIALS_FILE))
    except (OSError, configparser.Error):
        return {}  # the server will ask for a user name
    return parser["mlflow"] if parser.has_section("mlflow") else {}


TIMEOUT_SECONDS = "MLFLOW_HTTP_REQUEST_TIMEOUT"  # as for MLflow's own client
MAX_ANSWER_SHOWN = 300
MAX_BYTES = 8 << 20  # of an answer; a run with thousands of params has 1 MB
ANSWER_TIMEOUTS = 3  # a whole answer may take this many times the timeout of a silent server
MIN_BYTES_PER_SECOND = 1 << 16  # of an upload
# Ways to reach a server that only MLflow's own client supports.
CLIENT_ONLY_SETTINGS = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_CLIENT_CERT_PATH")


def is_directly_reachable(uri: str) -> bool:
    """Tell whether a server needs neither a proxy nor one of MLflow's plug-ins."""
    parts = urlsplit(uri)
    proxied = parts.scheme in getproxies() and not proxy_bypass(parts.hostname or "")
    return not proxied and not any(os.environ.get(name) for name in CLIENT_ONLY_SETTINGS)


NO_SHAPE: Mapping[str, Any] = {}


class HttpClient:
    """Raises Unavailable where the server does not answer as it should, Refused for what it will never accept."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._parts = urlsplit(uri)
        self._connection: http.client.HTTPConnection | None = None

    def call(
        self, method: str, path: str, body: Any = None, *, shape: Any = NO_SHAPE, once: bool = False
    ) -> dict[str, Any]:
        """Return the answer, which has this `shape` (see `json_shape.find_mismatch`).

        `once` is for calls that must not be repeated: a connection that turns out to be closed is then an error.
        """
        if once:
            self._close()
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        status, answer = self._request(method, path, data, {"Content-Type": "application/json"})
        content = _read_json(answer)
        if 200 <= status < 300 and content is not None:
            problem = find_mismatch(content, shape)
            if problem is not None:
                raise Unavailable(f"{redact(self.uri)} gives an answer that is not MLflow's: {problem}")
            return content
        raise self._error(status, answer, content)

    def send_file(self, path: str, file: IO[bytes], size: int) -> None:
        self._close()  # a retry could not read the file again
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        status, answer = self._request("PUT", path, file, headers)
        if not 200 <= status < 300:
            raise self._error(status, answer, _read_json(answer))

    def _request(self, method: str, path: str, body: bytes | IO[bytes] | None, headers: dict[str, str]) -> Any:
        try:
            credentials = authorization(self.uri, os.environ)  # at every call: they can be corrected during a run
            headers = headers | ({} if credentials is None else {"Authorization": credentials})
            address = self._parts.path.rstrip("/") + path
            if self._connection is not None:
                try:
                    return self._exchange(self._connection, method, address, body, headers)
                except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                    pass  # the other side closed an idle connection: try a new one
            self._close()
            self._connection = self._open()
            return self._exchange(self._connection, method, address, body, headers)
        except (OSError, http.client.HTTPException, ValueError) as problem:
            self._close()
            reason = printable(str(problem)[:MAX_ANSWER_SHOWN]) or type(problem).__name__
            raise Unavailable(f"{redact(self.uri)} does not answer: {redact(reason)}") from problem

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        address: str,
        body: bytes | IO[bytes] | None,
        headers: Mapping[str, str],
    ) -> tuple[int, bytes]:
        size = int(headers.get("Content-Length", "0"))
        with _ended_after(connection, ANSWER_TIMEOUTS * _timeout_seconds() + size / MIN_BYTES_PER_SECOND):
            connection.request(method, address, body, dict(headers))
            response = connection.getresponse()
            answer = response.read(MAX_BYTES + 1)
            if len(answer) > MAX_BYTES:
                raise http.client.HTTPException(f"its answer is longer than {MAX_BYTES:,} bytes")
            return response.status, answer

    def _open(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        timeout = _timeout_seconds()
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=_ssl_context())
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _error(self, status: int, answer: bytes, content: dict[str, Any] | None) -> Exception:
        message = (content or {}).get("message")
        text = (
            message if isinstance(message, str) and message else answer[: 4 * MAX_ANSWER_SHOWN].decode(errors="replace")
        )
        text = redact(f"{redact(self.uri)} answers {status}: {printable(text.strip()[:MAX_ANSWER_SHOWN])}")
        if status in (401, 403):
            return Unavailable(f"{text} ({REMEDY})")
        # An answer without MLflow's error code comes from something before it, or in its rank.
        if 400 <= status < 500 and status not in TEMPORARY_STATUSES and content is not None and "error_code" in content:
            return ResourceNotFound(text) if content["error_code"] == "RESOURCE_DOES_NOT_EXIST" else Refused(text)
        return Unavailable(text)


class ResourceNotFound(Refused):
    """The store has no such run or experiment."""


def _read_json(answer: bytes) -> dict[str, Any] | None:
    try:
        content = parse_json(answer)
    except ContentError:
        return None
    return content if isinstance(content, dict) else None


def _timeout_seconds() -> float:
    """Return how long a server may be silent."""
    return float(os.environ.get(TIMEOUT_SECONDS) or "20")


@contextmanager
def _ended_after(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """Raise TimeoutError when the answer has not ended after `seconds`.

    The socket's own timeout never expires for a server that sends a byte now and then, or headers without an end.
    """
    if connection.sock is None:
        connection.connect()
    wire: socket.socket = connection.sock
    over = threading.Event()

    def end() -> None:
        over.set()
        with suppress(OSError):
            socket.socket.shutdown(wire, socket.SHUT_RDWR)  # not ssl's, which takes from another thread what it reads

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if not over.is_set():
            raise
    finally:
        timer.cancel()
    if over.is_set():
        connection.close()
        raise TimeoutError(f"its answer has not ended within {seconds:g} s")


def _ssl_context() -> ssl.SSLContext:
    """Trust the same certificates as MLflow's own client and requests, below it, by the same variables."""
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
    names = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    bundle = next((os.environ[name] for name in names if os.environ.get(name)), None)
    if bundle is not None:
        return ssl.create_default_context(cafile=bundle)
    context = ssl.create_default_context()
    if not os.environ.get("SSL_CERT_FILE"):
        import certifi

        context.load_verify_locations(certifi.where())
    return context
