"""Requests to one HTTP server over one connection, kept open: what takes MLflow's client 170 MB fits into 20."""

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
from pipeline.tracking.mlflow.mlflow_errors import PASSING_STATUSES, Refused, Unavailable
from pipeline.tracking.tracking_uri import redacted

FILE = Path("~/.mlflow/credentials")
USERNAME, PASSWORD, TOKEN = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"
REMEDY = f"set {USERNAME} and {PASSWORD} (or {TOKEN}), or write the first two, in small letters, to {FILE}"


def authorization(uri: str, environment: Mapping[str, str]) -> str | None:
    """The header, by the same rules as MLflow's own client; None for a server that asks for nothing.

    A user and a password in the address win: that is how other programs hand them over.
    """
    named = urlsplit(uri)
    in_file = _file()
    user = environment.get(USERNAME) or in_file.get(USERNAME.lower())
    password = environment.get(PASSWORD) or in_file.get(PASSWORD.lower())
    if named.username is not None:
        user, password = unquote(named.username), unquote(named.password or "")
    if user and password is not None:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    token = environment.get(TOKEN)
    return f"Bearer {token}" if token else None


def _file() -> Mapping[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(os.path.expanduser(FILE))
    except (OSError, configparser.Error):
        return {}  # whoever cannot read it is told by the server that it wants a name
    return parser["mlflow"] if parser.has_section("mlflow") else {}


TIMEOUT_SECONDS = "MLFLOW_HTTP_REQUEST_TIMEOUT"  # as for MLflow's own client
LONGEST_ANSWER_SHOWN = 300
MOST_BYTES = 8 << 20  # of an answer; a run with thousands of params has 1 MB
ANSWER_TIMEOUTS = 3  # a whole answer may take as many times as long as a server may be silent
SLOWEST_BYTES_PER_SECOND = 1 << 16  # of a file on its way to the server
# Ways to a server that only MLflow's own client knows.
SPECIAL = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_CLIENT_CERT_PATH")


def reaches(uri: str) -> bool:
    """Whether the server can be spoken to from here: not through a proxy, nor with one of MLflow's plug-ins."""
    parts = urlsplit(uri)
    proxied = parts.scheme in getproxies() and not proxy_bypass(parts.hostname or "")
    return not proxied and not any(os.environ.get(name) for name in SPECIAL)


NOTHING_SPECIAL: Mapping[str, Any] = {}


class HttpCalls:
    """Raises Unavailable for a server that does not answer as it should, Refused for what it will never take."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._parts = urlsplit(uri)
        self._connection: http.client.HTTPConnection | None = None

    def call(
        self, method: str, path: str, body: Any = None, *, shape: Any = NOTHING_SPECIAL, once: bool = False
    ) -> dict[str, Any]:
        """The answer, which has this `shape` (see `shape.mismatch`).

        `once` is for what must not be done twice: a connection that turns out to be closed is then an error.
        """
        if once:
            self._close()
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        status, answer = self._request(method, path, data, {"Content-Type": "application/json"})
        found = _read_json(answer)
        if 200 <= status < 300 and found is not None:
            problem = find_mismatch(found, shape)
            if problem is not None:
                raise Unavailable(f"{redacted(self.uri)} gives an answer that is none of MLflow's: {problem}")
            return found
        raise self._error(status, answer, found)

    def send_file(self, path: str, file: IO[bytes], size: int) -> None:
        self._close()  # the file can be read but once
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        status, answer = self._request("PUT", path, file, headers)
        if not 200 <= status < 300:
            raise self._error(status, answer, _read_json(answer))

    def _request(self, method: str, path: str, body: bytes | IO[bytes] | None, headers: dict[str, str]) -> Any:
        try:
            known = authorization(self.uri, os.environ)  # each time: it can be mended while a run goes on
            headers = headers | ({} if known is None else {"Authorization": known})
            address = self._parts.path.rstrip("/") + path
            if self._connection is not None:
                try:
                    return self._exchange(self._connection, method, address, body, headers)
                except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                    pass  # an idle connection was closed by the other side: a new one tells how things are
            self._close()
            self._connection = self._open()
            return self._exchange(self._connection, method, address, body, headers)
        except (OSError, http.client.HTTPException, ValueError) as problem:
            self._close()
            what = printable(str(problem)[:LONGEST_ANSWER_SHOWN]) or type(problem).__name__
            raise Unavailable(f"{redacted(self.uri)} does not answer: {redacted(what)}") from problem

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        address: str,
        body: bytes | IO[bytes] | None,
        headers: Mapping[str, str],
    ) -> tuple[int, bytes]:
        size = int(headers.get("Content-Length", "0"))
        with _ended_after(connection, ANSWER_TIMEOUTS * _timeout_seconds() + size / SLOWEST_BYTES_PER_SECOND):
            connection.request(method, address, body, dict(headers))
            response = connection.getresponse()
            answer = response.read(MOST_BYTES + 1)
            if len(answer) > MOST_BYTES:
                raise http.client.HTTPException(f"its answer is longer than {MOST_BYTES:,} bytes")
            return response.status, answer

    def _open(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        timeout = _timeout_seconds()
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=_trust())
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _error(self, status: int, answer: bytes, found: dict[str, Any] | None) -> Exception:
        told = (found or {}).get("message")
        text = told if isinstance(told, str) and told else answer[: 4 * LONGEST_ANSWER_SHOWN].decode(errors="replace")
        text = printable(text.strip()[:LONGEST_ANSWER_SHOWN])
        says = redacted(f"{redacted(self.uri)} answers {status}: {text}")
        if status in (401, 403):
            return Unavailable(f"{says} ({REMEDY})")
        # What has no code of MLflow's comes from something that stands before it, or in its place.
        is_from_mlflow = found is not None and "error_code" in found
        if 400 <= status < 500 and status not in PASSING_STATUSES and is_from_mlflow:
            assert found is not None
            return Missing(says) if found["error_code"] == "RESOURCE_DOES_NOT_EXIST" else Refused(says)
        return Unavailable(says)


class Missing(Refused):
    """There is no such thing in the store."""


def _read_json(answer: bytes) -> dict[str, Any] | None:
    try:
        found = parse_json(answer)
    except ContentError:
        return None
    return found if isinstance(found, dict) else None


def _timeout_seconds() -> float:
    """How long a server may be silent."""
    return float(os.environ.get(TIMEOUT_SECONDS) or "20")


@contextmanager
def _ended_after(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """Raises TimeoutError: what sends a byte now and then, or headers without an end, never falls silent."""
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


def _trust() -> ssl.SSLContext:
    """Whose certificates are believed: as MLflow's own client and what stands below it (requests) are told."""
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
    named = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    bundle = next((os.environ[name] for name in named if os.environ.get(name)), None)
    if bundle is not None:
        return ssl.create_default_context(cafile=bundle)
    context = ssl.create_default_context()
    if not os.environ.get("SSL_CERT_FILE"):
        import certifi

        context.load_verify_locations(certifi.where())
    return context
