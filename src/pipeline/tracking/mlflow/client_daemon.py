"""The shared MLflow client: `python -m pipeline.tracking.mlflow.client_daemon SOCKET DESCRIPTOR`.

It holds an MLflow store for all sidecars of this machine that ship to it, for as long as there are any and a little
longer. Each by itself would have to import mlflow: eight runs at once, 1.5 GB of memory.
"""

import contextlib
import json
import logging
import os
import signal
import socketserver
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pipeline.errors import TrackingError
from pipeline.system.files import file_lock
from pipeline.tracking import tracking_uri
from pipeline.tracking.mlflow.backend import Point
from pipeline.tracking.mlflow.client_backend import MlflowBackend
from pipeline.tracking.mlflow.mlflow_errors import Refused, quieten
from pipeline.tracking.redaction import log_redacted

LINGER_SECONDS = 10.0  # for the next of many short runs
CALLS = (
    "run",
    "run_tagged",
    "create_run",
    "experiment",
    "create_experiment",
    "log_batch",
    "update_run",
    "log_dataset",
    "log_artifact",
)

log = logging.getLogger(__name__)


class Keeper:
    """Answers calls by name; the store is opened by the first, and again by each until that succeeds."""

    def __init__(self, uri: str, artifact_root: str | None) -> None:
        self.uri = uri
        self.artifact_root = artifact_root
        self.database = tracking_uri.sqlite_file(uri)
        self._backend: MlflowBackend | None = None
        self._inode: int | None = None
        self._turn = threading.Lock()

    def answer(self, line: bytes) -> dict[str, Any]:
        request = json.loads(line)
        name, arguments, named = request["call"], request["arguments"], request["named"]
        try:
            if name not in CALLS:
                raise Refused(f"no such call: {name}")
            if "metrics" in named:
                named["metrics"] = [Point(*each) for each in named["metrics"]]
            with self._turn:
                call = getattr(self._opened(), name)
                if name != "log_artifact":  # a large file holds nobody up
                    return {"answer": call(*arguments, **named)}
            return {"answer": call(*arguments, **named)}
        except Exception as problem:  # whatever it is, whoever asked must get an answer
            if not isinstance(problem, TrackingError):
                log.exception("unexpected")
            return {"error": tracking_uri.redacted(str(problem)), "refused": isinstance(problem, Refused)}

    def _opened(self) -> MlflowBackend:
        if self._backend is not None and self._inode != self._inode_now():
            # mlflow would go on writing to the old file, which nobody will ever see; a new keeper makes a new one.
            log.warning("%s was replaced or thrown away: ending", self.database)
            os._exit(1)
        if self._backend is None:
            self._backend = MlflowBackend(self.uri, self.artifact_root)
            self._inode = self._inode_now()
        return self._backend

    def _inode_now(self) -> int | None:
        try:
            return None if self.database is None else self.database.stat().st_ino
        except OSError:
            return None


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, place: Path, descriptor: int, keeper: Keeper) -> None:
        super().__init__(str(place), Visitor, bind_and_activate=False)
        self.socket.close()
        self.socket = self.socket.__class__(fileno=descriptor)
        self.place = place
        self.keeper = keeper
        self.visitors = 0
        self.counting = threading.Lock()
        self.left_at = time.monotonic()

    def serve(self) -> None:
        self.timeout = 1.0
        while not (self._is_deserted() and self._closed()):
            self.handle_request()

    def _is_deserted(self) -> bool:
        with self.counting:
            return self.visitors == 0 and time.monotonic() - self.left_at > LINGER_SECONDS

    def _closed(self) -> bool:
        """Under the lock of whoever starts one, so that there are never two. A late visitor has to come again."""
        try:
            with file_lock(self.place.with_suffix(".lock"), timeout_seconds=0):
                self.place.unlink(missing_ok=True)
                return True
        except TimeoutError:
            return False


class Visitor(socketserver.StreamRequestHandler):
    server: Server

    def setup(self) -> None:
        super().setup()
        with self.server.counting:
            self.server.visitors += 1

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the visitor was killed
            for line in self.rfile:
                self.wfile.write(json.dumps(self.server.keeper.answer(line)).encode() + b"\n")

    def finish(self) -> None:
        with self.server.counting:
            self.server.visitors -= 1
            self.server.left_at = time.monotonic()
        with contextlib.suppress(OSError):
            super().finish()


def main() -> int:
    place, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_redacted()
    quieten()
    sys.modules["pyarrow"] = None  # type: ignore[assignment]  # pandas, below mlflow, does without: 36 MB less
    store = json.loads(sys.stdin.buffer.read())
    os.chdir("/")  # it outlives the run that started it, and keeps nobody's folder busy
    with Server(place, descriptor, Keeper(store["uri"], store["artifact_root"])) as server:
        server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
