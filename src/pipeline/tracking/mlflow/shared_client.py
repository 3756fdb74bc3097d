"""One MLflow client for all sidecars of a machine that send to the same store: both ends of a local socket.

`python -m pipeline.tracking.mlflow.shared_client SOCKET DESCRIPTOR` is the process that holds the client, for as long
as anyone is connected and a little longer. Each sidecar by itself would have to import mlflow: eight runs at once,
1.5 GB of memory. One JSON object a line goes either way: {"call", "arguments", "named"}; {"answer"} or {"error",
"refused"}. The calls are the methods of `Backend`, which are named there alone.
"""

import hashlib
import json
import logging
import os
import signal
import socket
import socketserver
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

from pipeline.errors import TrackingError
from pipeline.system.files import file_lock
from pipeline.system.process import module_command
from pipeline.tracking import tracking_uri
from pipeline.tracking.mlflow.backends import Backend, ClientBackend
from pipeline.tracking.mlflow.mlflow_client import Refused, Unavailable, quiet_mlflow
from pipeline.tracking.tracking_uri import log_to_stderr_redacted

CALLS = tuple(name for name in vars(Backend) if not name.startswith("_"))
ANSWER_SECONDS = 300.0  # importing mlflow and creating a database take ten; a large file is copied meanwhile
LINGER_SECONDS = 10.0  # for the next of many short runs
MAX_SOCKET_PATH_BYTES = 100  # macOS allows 104, Linux 108
# Settings that lead to another store for the same address: credentials, how it is reached.
SETTINGS = ("MLFLOW_", "AWS_", "AZURE_", "GOOGLE_", "PG")

log = logging.getLogger(__name__)


def socket_path(uri: str) -> Path | None:
    """Return the socket for this store, this installation and these settings; None where there can be none."""
    folder = Path(tempfile.gettempdir(), f"pipeline-{os.getuid()}")
    settings = sorted(item for item in os.environ.items() if item[0].startswith(SETTINGS))
    key = hashlib.sha256(repr((uri, sys.executable, __file__, settings)).encode()).hexdigest()[:16]
    path = folder / f"{key}.sock"
    return path if _is_private(folder) and len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES else None


def _is_private(folder: Path) -> bool:
    """Create the folder of sockets; False where others could write there and read what we send."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


def shared_backend(uri: str, artifact_root: str | None, path: Path) -> Backend:
    """Return a backend that forwards each call to the process behind the socket at `path`."""
    return cast(Backend, _Forwarder(uri, artifact_root, path))


class _Forwarder:
    """Starts the process where none answers. When it dies, the next call raises Unavailable, and the one after
    that starts another.
    """

    def __init__(self, uri: str, artifact_root: str | None, path: Path) -> None:
        self._store = {"uri": uri, "artifact_root": artifact_root}
        self._path = path
        self._connection: socket.socket | None = None
        self._answers: Any = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in CALLS:
            raise AttributeError(name)
        return partial(self._call, name)

    def _call(self, name: str, *arguments: Any, **named: Any) -> Any:
        try:
            if self._connection is None:
                self._connection = self._reach()
                self._answers = self._connection.makefile("rb")
            request = json.dumps({"call": name, "arguments": arguments, "named": named})
            self._connection.sendall(request.encode() + b"\n")
            answer = json.loads(self._answers.readline() or b"null")
        except (OSError, ValueError) as problem:
            self._disconnect()
            raise Unavailable(f"the process that holds the store does not answer ({problem})") from problem
        if answer is None:
            self._disconnect()
            raise Unavailable(
                f"the process that holds the store has ended; {self._path.with_suffix('.log')} may say why"
            )
        if "error" in answer:
            raise (Refused if answer["refused"] else Unavailable)(answer["error"])
        return _typed(name, answer["answer"])

    def _reach(self) -> socket.socket:
        with suppress(FileNotFoundError, ConnectionRefusedError):
            return _connect(self._path)
        with file_lock(self._path.with_suffix(".lock")):
            with suppress(FileNotFoundError, ConnectionRefusedError):
                return _connect(self._path)  # another sidecar was faster
            self._start()
        return _connect(self._path)

    def _start(self) -> None:
        """Start the process with a socket that listens already: early calls wait until mlflow is imported."""
        self._path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener, self._path.with_suffix(".log").open("wb") as output:
            listener.bind(str(self._path))
            listener.listen(128)
            daemon = subprocess.Popen(
                module_command("pipeline.tracking.mlflow.shared_client", str(self._path), str(listener.fileno())),
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            assert daemon.stdin is not None
            # Not on its command line, which everyone can read: an address may hold a password.
            daemon.stdin.write(json.dumps(self._store).encode())
            daemon.stdin.close()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(ANSWER_SECONDS)
    try:
        connection.connect(os.fspath(path))
    except OSError:
        connection.close()
        raise
    return connection


def _typed(name: str, answer: Any) -> Any:
    """Return an answer as the NamedTuple that `Backend` declares for the call, which is an array in JSON."""
    declared = get_type_hints(getattr(Backend, name))["return"]
    record = next((kind for kind in (declared, *get_args(declared)) if hasattr(kind, "_fields")), None)
    return answer if record is None or answer is None else record(*answer)


class ClientService:
    """Answers calls by name. The first call opens the store; every call tries again until that succeeds."""

    def __init__(self, uri: str, artifact_root: str | None) -> None:
        self.uri = uri
        self.artifact_root = artifact_root
        self.database = tracking_uri.sqlite_file(uri)
        self._backend: Backend | None = None
        self._inode: int | None = None
        self._lock = threading.Lock()

    def answer(self, line: bytes) -> dict[str, Any]:
        request = json.loads(line)
        name, arguments, named = request["call"], request["arguments"], request["named"]
        try:
            if name not in CALLS:
                raise Refused(f"no such call: {name}")
            with self._lock:
                call = getattr(self._opened(), name)
                if name != "log_artifact":  # a large file must not delay other calls
                    return {"answer": call(*arguments, **named)}
            return {"answer": call(*arguments, **named)}
        except Exception as problem:  # the caller needs an answer, whatever happened
            if not isinstance(problem, TrackingError):
                log.exception("unexpected")
            return {"error": tracking_uri.redact(str(problem)), "refused": isinstance(problem, Refused)}

    def _opened(self) -> Backend:
        if self._backend is not None and self._inode != self._current_inode():
            # mlflow would go on writing to the deleted file; a new process creates a new one.
            log.warning("%s was replaced or deleted: ending", self.database)
            os._exit(1)
        if self._backend is None:
            self._backend = ClientBackend(self.uri, self.artifact_root)
            self._inode = self._current_inode()
        return self._backend

    def _current_inode(self) -> int | None:
        try:
            return None if self.database is None else self.database.stat().st_ino
        except OSError:
            return None


class ClientDaemon(socketserver.ThreadingUnixStreamServer):
    """Serves a ClientService on a socket that listens already, until nobody has been connected for a while."""

    daemon_threads = True

    def __init__(self, path: Path, descriptor: int, service: ClientService) -> None:
        super().__init__(str(path), ConnectionHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = self.socket.__class__(fileno=descriptor)
        self.path = path
        self.service = service
        self.connections = 0
        self.counter_lock = threading.Lock()
        self.idle_since = time.monotonic()

    def serve(self) -> None:
        self.timeout = 1.0
        while not (self._is_idle() and self._close_socket()):
            self.handle_request()

    def _is_idle(self) -> bool:
        with self.counter_lock:
            return self.connections == 0 and time.monotonic() - self.idle_since > LINGER_SECONDS

    def _close_socket(self) -> bool:
        """Remove the socket under the lock of those who start a process, so that there are never two of them.

        A connection that comes too late has to be made again.
        """
        try:
            with file_lock(self.path.with_suffix(".lock"), timeout_seconds=0):
                self.path.unlink(missing_ok=True)
                return True
        except TimeoutError:
            return False


class ConnectionHandler(socketserver.StreamRequestHandler):
    """Answers the lines of one sidecar."""

    server: ClientDaemon

    def setup(self) -> None:
        super().setup()
        with self.server.counter_lock:
            self.server.connections += 1

    def handle(self) -> None:
        with suppress(OSError):  # the sidecar was killed
            for line in self.rfile:
                self.wfile.write(json.dumps(self.server.service.answer(line)).encode() + b"\n")

    def finish(self) -> None:
        with self.server.counter_lock:
            self.server.connections -= 1
            self.server.idle_since = time.monotonic()
        with suppress(OSError):
            super().finish()


def main() -> int:
    path, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_to_stderr_redacted()
    quiet_mlflow()
    sys.modules["pyarrow"] = None  # type: ignore[assignment]  # pandas, below mlflow, does without: 36 MB less
    store = json.loads(sys.stdin.buffer.read())
    os.chdir("/")  # it outlives the run that started it, and must not keep that run's folder busy
    with ClientDaemon(path, descriptor, ClientService(store["uri"], store["artifact_root"])) as daemon:
        daemon.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
