"""Servers that answer without end, in another shape, or with what a terminal would obey: real ones, on this machine."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.tracking import sidecar
from pipeline.tracking.journal import Journal
from pipeline.tracking.mlflow import http_client
from pipeline.tracking.mlflow.backends import RestBackend
from pipeline.tracking.mlflow.mlflow_client import Unavailable
from pipeline.tracking.mlflow.registry import ModelRegistry
from pipeline.tracking.shipping.sync_worker import SyncJob
from pipeline.tracking.sidecar import sync_run

MEGABYTE = 1 << 20
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

Behaviour = Callable[[socket.socket], None]


class BadServer:
    """Does the same with every connection, once it has read something from it."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.requests: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            self.requests.append(connection.recv(65_536))
            self.behave(connection)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):  # a close with something unread would take the answer away
                pass


@pytest.fixture
def serve() -> Iterator[Callable[[Behaviour], BadServer]]:
    servers: list[BadServer] = []

    def start(behave: Behaviour) -> BadServer:
        servers.append(BadServer(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.listener.close()


def endless_body(connection: socket.socket) -> None:
    connection.sendall(HEAD + b'\r\n{"message": "')
    while True:
        connection.sendall(b"x" * MEGABYTE)


def endless_chunks(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"100000\r\n" + b"x" * MEGABYTE + b"\r\n")


def promised_body(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Content-Length: 999999999999\r\n\r\n")
    while True:
        connection.sendall(b" " * MEGABYTE)


def endless_headers(connection: socket.socket) -> None:
    connection.sendall(HEAD)
    while True:
        connection.sendall(b"X-More: " + b"y" * 60_000 + b"\r\n")


def endless_header(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"X-Long: ")
    while True:
        connection.sendall(b"y" * MEGABYTE)


def endless_continue(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def endless_error(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 500 No\r\n\r\n")
    while True:
        connection.sendall(b"x" * MEGABYTE)


def dripping_body(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.1)


def dripping_head(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.sendall(b"y")
        time.sleep(0.1)


ENDLESS = (
    endless_body,
    endless_chunks,
    promised_body,
    endless_headers,
    endless_header,
    endless_continue,
    endless_error,
)
DRIPPING = (dripping_body, dripping_head)


@pytest.mark.parametrize("behave", [*ENDLESS, *DRIPPING])
def test_an_endless_answer_is_cut_off(
    serve: Callable[[Behaviour], BadServer], monkeypatch: pytest.MonkeyPatch, behave: Behaviour
) -> None:
    monkeypatch.setenv(http_client.TIMEOUT_SECONDS, "0.5")
    before = psutil.Process().memory_info().rss
    with pytest.raises(Unavailable, match=r"does not answer|answers 500"):
        RestBackend(serve(behave).uri).get_run("r")
    assert psutil.Process().memory_info().rss - before < 10 * http_client.MAX_BYTES


@pytest.mark.cold  # what is imported counts
@pytest.mark.parametrize("behave", [endless_body, endless_continue])
def test_the_sidecar_stays_small_whatever_the_server_answers(
    serve: Callable[[Behaviour], BadServer],
    run_dir: Path,
    journal: Journal,
    begin: Any,
    monkeypatch: pytest.MonkeyPatch,
    behave: Behaviour,
) -> None:
    monkeypatch.setenv(http_client.TIMEOUT_SECONDS, "0.5")
    begin(journal)
    journal.end("FINISHED")
    errand = SyncJob(serve(behave).uri, None, None, follow=False, patience_seconds=3.0)
    started = sidecar.launch_sync(run_dir, errand)
    assert started.process is not None
    process, largest = psutil.Process(started.process.pid), 0
    started.process.stdin.close()
    while started.process.poll() is None:
        with suppress(psutil.Error):
            largest = max(largest, process.memory_info().rss)
        time.sleep(0.02)
    assert 0 < largest < 150 * MEGABYTE
    assert "does not answer" in (run_dir / "sync.json").read_text()


def answering(content: Any, status: bytes = b"200 OK") -> Behaviour:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()

    def behave(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))

    return behave


ODD: tuple[Any, ...] = (
    None,
    [],
    {},
    7,
    "word",
    {"run": None},
    {"run": []},
    {"run": {"info": []}},
    {"run": {"info": {}}},
)
ODD = (
    *ODD,
    {"run": {"info": {"run_id": 5, "experiment_id": "1"}}},
    {"runs": {}, "experiment": [], "experiment_id": []},
)
ODD = (*ODD, {"run": {"info": {"run_id": "../../x", "experiment_id": "1"}}}, b"[" * 200_000, b'{"run": 1' + b"0" * 5000)
ODD = (
    *ODD,
    b"\xff\xfe",
    b"",
    b'{"experiment_id": NaN, "run": NaN, "runs": [NaN], "experiment": {"experiment_id": NaN}}',
)
CALLS: dict[str, Callable[[RestBackend], object]] = {
    "run": lambda backend: backend.get_run("r"),
    "experiment": lambda backend: backend.get_experiment("e"),
    "create_run": lambda backend: backend.create_run("1", "n", 1, {}),
    "create_experiment": lambda backend: backend.create_experiment("n", None),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_answer_of_another_shape_is_refused(serve: Callable[[Behaviour], BadServer], call: str) -> None:
    for content in ODD:
        with pytest.raises(Unavailable, match=r"not MLflow's|answers 200") as caught:
            CALLS[call](RestBackend(serve(answering(content)).uri))
        assert "Error" not in str(caught.value)


@pytest.mark.parametrize("status", [b"500 No", b"400 No", b"404 No", b"401 No"])
def test_a_servers_message_is_shown_without_control_sequences(
    serve: Callable[[Behaviour], BadServer], status: bytes
) -> None:
    told = "\x1b]0;owned\x07\x1b[2J\x9b31m\ud800‮" + "x" * 100_000
    for content in ({"error_code": "X", "message": told}, told.encode(errors="replace"), {"message": {"a": [told]}}):
        with pytest.raises(Exception, match="answers") as caught:
            RestBackend(serve(answering(content, status)).uri).get_run("r")
        said = str(caught.value)
        assert not {"\x1b", "\x07", "\x9b", "\ud800", "‮"} & set(said) and len(said) < 1000


def test_a_token_does_not_follow_to_another_host(
    serve: Callable[[Behaviour], BadServer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    other = serve(answering({"run": {"info": {"run_id": "r", "experiment_id": "1"}}}))
    there = b"302 Found\r\nLocation: " + other.uri.encode() + b"/api"
    with pytest.raises(Unavailable, match="302"):
        RestBackend(serve(answering({}, there)).uri).get_run("r")
    moved = {"run": {"info": {"run_id": "r", "experiment_id": "1", "artifact_uri": f"{other.uri}/files"}}}
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(Exception, match="another server"):
        RestBackend(serve(answering(moved)).uri).log_artifact("r", str(tmp_path / "a.txt"), None)
    assert other.requests == []


CLIENT = """
import sys, resource
from pipeline.tracking.mlflow.registry import ModelRegistry
try:
    ModelRegistry(sys.argv[1]).champion("model")
except Exception as problem:
    print(type(problem).__name__, problem)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.parametrize("answer", [{"model_version": 3}, {"model_version": {"version": {}}}, [], 3])
def test_mlflows_own_client_says_that_it_does_not_understand_an_answer(
    serve: Callable[[Behaviour], BadServer], answer: Any
) -> None:
    with pytest.raises(Unavailable, match=r"understand the answer|not in a valid JSON format"):
        ModelRegistry(serve(answering(answer)).uri).champion("model")


@pytest.mark.slow  # MLflow's own client takes seconds to import
@pytest.mark.parametrize("behave", [endless_body, endless_chunks])
def test_mlflows_own_client_reads_a_bounded_answer(serve: Callable[[Behaviour], BadServer], behave: Behaviour) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, serve(behave).uri], capture_output=True, text=True, timeout=120, check=True
    )
    said, megabytes = done.stdout.strip().rsplit("\n", 1)
    assert said.startswith(("Unavailable", "Refused")) and len(said) < 3_000, done.stdout
    assert int(megabytes) < 700


def test_sync_says_in_a_sentence_what_is_wrong_with_the_server(
    serve: Callable[[Behaviour], BadServer],
    run_dir: Path,
    journal: Journal,
    begin: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.tracking.sidecar.PATIENCE_SECONDS", 1.0)
    begin(journal)
    journal.end("FINISHED")
    state = sync_run(
        run_dir, uri=serve(answering({"run": 1, "runs": 7, "experiment": "\x1b"})).uri, artifacts=None, on_model=None
    )
    assert state.problem is not None and "not MLflow's: experiment is not an object" in state.problem
    assert "\x1b" not in (run_dir / "sidecar.log").read_text()
