"""A store held by a keeper: one process of this machine that has imported mlflow, for all who ship to that store."""

import hashlib
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.system.files import file_lock
from pipeline.system.process import module_command
from pipeline.tracking.mlflow.backend import Point, StoredExperiment, StoredRun
from pipeline.tracking.mlflow.mlflow_errors import Refused, Unavailable

ANSWER_SECONDS = 300.0  # importing mlflow and making a database take ten; a large file is copied meanwhile


class SharedBackend:
    """Starts the keeper where none answers. One that dies makes the next call Unavailable, and the one after it anew.

    One JSON object a line goes either way: {"call", "arguments"}; {"answer"} or {"error", "refused"}.
    """

    def __init__(self, uri: str, artifact_root: str | None, place: Path) -> None:
        self._store = {"uri": uri, "artifact_root": artifact_root}
        self._place = place
        self._connection: socket.socket | None = None
        self._answers: Any = None

    def run(self, run_id: str) -> StoredRun | None:
        found = self._call("run", run_id)
        return None if found is None else StoredRun(*found)

    def run_tagged(self, experiment_id: str, tag: str, text: str) -> StoredRun | None:
        found = self._call("run_tagged", experiment_id, tag, text)
        return None if found is None else StoredRun(*found)

    def create_run(self, experiment_id: str, name: str, time: int, tags: Mapping[str, str]) -> StoredRun:
        return StoredRun(*self._call("create_run", experiment_id, name, time, dict(tags)))

    def experiment(self, name: str) -> StoredExperiment | None:
        found = self._call("experiment", name)
        return None if found is None else StoredExperiment(*found)

    def create_experiment(self, name: str, place: str | None) -> str:
        return str(self._call("create_experiment", name, place))

    def log_batch(
        self,
        run_id: str,
        *,
        metrics: Sequence[Point] = (),
        params: Sequence[tuple[str, str]] = (),
        tags: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._call("log_batch", run_id, metrics=list(metrics), params=list(params), tags=list(tags))

    def update_run(self, run_id: str, status: str, time: int | None) -> None:
        self._call("update_run", run_id, status, time)

    def log_dataset(self, run_id: str, dataset: Mapping[str, str]) -> None:
        self._call("log_dataset", run_id, dict(dataset))

    def log_artifact(self, run_id: str, path: str, folder: str | None) -> None:
        self._call("log_artifact", run_id, path, folder)

    def _call(self, name: str, *arguments: Any, **named: Any) -> Any:
        try:
            if self._connection is None:
                self._connection = self._reach()
                self._answers = self._connection.makefile("rb")
            self._connection.sendall(
                json.dumps({"call": name, "arguments": arguments, "named": named}).encode() + b"\n"
            )
            answer = json.loads(self._answers.readline() or b"null")
        except (OSError, ValueError) as problem:
            self._let_go()
            raise Unavailable(f"the process that holds the store does not answer ({problem})") from problem
        if answer is None:
            self._let_go()
            raise Unavailable(
                f"the process that holds the store has ended; {self._place.with_suffix('.log')} may tell why"
            )
        if "error" in answer:
            raise (Refused if answer["refused"] else Unavailable)(answer["error"])
        return answer["answer"]

    def _reach(self) -> socket.socket:
        with suppress(FileNotFoundError, ConnectionRefusedError):
            return _connected(self._place)
        with file_lock(self._place.with_suffix(".lock")):
            with suppress(FileNotFoundError, ConnectionRefusedError):
                return _connected(self._place)  # another was faster
            self._start()
        return _connected(self._place)

    def _start(self) -> None:
        """It is given a socket that listens already: who comes before it has imported mlflow waits for its answer."""
        self._place.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener, self._place.with_suffix(".log").open("wb") as log:
            listener.bind(str(self._place))
            listener.listen(128)
            keeper = subprocess.Popen(
                module_command("pipeline.tracking.mlflow.client_daemon", str(self._place), str(listener.fileno())),
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            assert keeper.stdin is not None
            # Not on its command line, which everyone could read: an address may hold a password.
            keeper.stdin.write(json.dumps(self._store).encode())
            keeper.stdin.close()

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def _connected(place: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(ANSWER_SECONDS)
    try:
        connection.connect(os.fspath(place))
    except OSError:
        connection.close()
        raise
    return connection


LONGEST_SOCKET_PATH = 100  # bytes; macOS allows 104, Linux 108
# Settings that make another store of the same address: its files' credentials, how it is reached.
SETTINGS = ("MLFLOW_", "AWS_", "AZURE_", "GOOGLE_", "PG")


def of_this_machine(uri: str) -> Path | None:
    """The socket's path for this store, this installation and these settings.

    None where there can be none: then each process has to hold the store itself.
    """
    folder = Path(tempfile.gettempdir(), f"pipeline-{os.getuid()}")
    settings = sorted(item for item in os.environ.items() if item[0].startswith(SETTINGS))
    key = hashlib.sha256(repr((uri, sys.executable, __file__, settings)).encode()).hexdigest()[:16]
    place = folder / f"{key}.sock"
    return place if _is_ours(folder) and len(os.fsencode(place)) <= LONGEST_SOCKET_PATH else None


def _is_ours(folder: Path) -> bool:
    """Whoever could write there would be told what we track."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
