"""MLflow's own UI: serve it from a local store, and link to its pages."""

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from types import FrameType
from typing import IO, Any

from pipeline.errors import TrackingError, UserError
from pipeline.system.process import module_command
from pipeline.tracking import tracking_uri
from pipeline.tracking.mlflow import sqlite_store
from pipeline.tracking.mlflow.mlflow_client import quiet_mlflow

HOST = "127.0.0.1"  # nobody but this machine; MLflow itself refuses other host names then
START_SECONDS = 120.0
STOP_SECONDS = 5.0
LOG_LINES = 15
EXPERIMENTS = "experiments"
WORKFLOW = "workflowType=machine_learning"
ARTIFACT = re.compile(r"(!?)\[([^\]]*)\]\(artifact:([^)]+)\)")


def page_link(base: str, page: str) -> str:
    """Return the address of a page in the mode for training runs; a new browser opens the one for language models."""
    return f"{tracking_uri.redact(base).rstrip('/')}/#/{page}?{WORKFLOW}"


def experiment_page(experiment_id: str) -> str:
    return f"{EXPERIMENTS}/{experiment_id}"


def run_page(experiment_id: str, run_id: str) -> str:
    return f"{EXPERIMENTS}/{experiment_id}/runs/{run_id}"


def version_page(name: str, number: str) -> str:
    """Return the page of one version of a registered model."""
    return f"models/{urllib.parse.quote(name)}/versions/{number}"


def experiment_link(base: str, experiment_id: str) -> str:
    return page_link(base, experiment_page(experiment_id))


def run_link(base: str, experiment_id: str, run_id: str) -> str:
    return page_link(base, run_page(experiment_id, run_id))


def resolve_artifact_links(text: str, experiment_id: str, run_id: str) -> str:
    """Return Markdown with an address in MLflow's UI for every target artifact:PATH, a file of the run.

    Addresses are relative to the page, wherever it is served: a link opens the file's page, an image is the file.
    """

    def page(match: "re.Match[str]") -> str:
        is_image, label, path = match.groups()
        quoted = urllib.parse.quote(path)
        if is_image:
            return f"![{label}](get-artifact?path={quoted}&run_uuid={run_id})"
        return f"[{label}](#/{run_page(experiment_id, run_id)}/artifacts/{quoted}?{WORKFLOW})"

    return ARTIFACT.sub(page, text)


def serve_ui(uri: str, artifacts: str | None, port: int, page: str = EXPERIMENTS) -> int:
    """Serve the store until Ctrl-C and return the exit code; of a server only the link is printed.

    Raises UserError for a port that is in use, TrackingError if MLflow does not start.
    """
    if tracking_uri.is_server(uri):
        print(page_link(uri, page), flush=True)
        return 0
    if not _is_free(port):
        free = next(candidate for candidate in range(port + 1, 65_536) if _is_free(candidate))
        raise UserError(f"port {port} is in use on this machine (perhaps by another `ui`); {free} is free: port={free}")
    quiet_mlflow()
    database = tracking_uri.sqlite_file(uri)
    if database is not None:
        sqlite_store.create_if_missing(database, tracking_uri.artifact_root(uri, artifacts))
    if (remedy := sqlite_store.upgrade_hint(database)) is not None:
        raise UserError(remedy)
    signal.signal(signal.SIGTERM, _interrupt)
    with tempfile.TemporaryFile() as log:
        server = _start(uri, artifacts, port, log)
        try:
            _wait_until_it_answers(server, port, log)
            print(f"{page_link(f'http://{HOST}:{port}', page)}\n(Ctrl-C ends it)", flush=True)
            server.wait()
            raise TrackingError(f"MLflow's server ended by itself:\n{_end_of(log)}")
        except KeyboardInterrupt:
            return 0
        finally:
            _stop(server)


def _start(uri: str, artifacts: str | None, port: int, log: IO[bytes]) -> "subprocess.Popen[bytes]":
    database, artifact_root = tracking_uri.sqlite_file(uri), tracking_uri.artifact_root(uri, artifacts)
    address = uri if database is None else tracking_uri.sqlalchemy_url(database)
    environment = {
        **os.environ,
        "MLFLOW_CONFIGURE_LOGGING": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # else a dozen processes for features that training does not use
        # Not arguments, which everyone on the machine could read: they may hold a password.
        "MLFLOW_BACKEND_STORE_URI": address,
        "MLFLOW_REGISTRY_STORE_URI": address,
        **({} if artifact_root is None else {"MLFLOW_DEFAULT_ARTIFACT_ROOT": artifact_root}),
    }
    options = ("--host", HOST, "--port", str(port), "--workers", "1", "--no-serve-artifacts")
    return subprocess.Popen(
        module_command("mlflow", "server", *options),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # all of its processes can then be ended together
    )


def _wait_until_it_answers(server: "subprocess.Popen[bytes]", port: int, log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise TrackingError(f"MLflow's server did not come up:\n{_end_of(log)}")


def _stop(server: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(STOP_SECONDS)
        except (ProcessLookupError, PermissionError):  # all gone; macOS says the latter
            return
        except subprocess.TimeoutExpired:
            continue


def _interrupt(number: int, frame: FrameType | None) -> Any:
    raise KeyboardInterrupt


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _end_of(log: IO[bytes]) -> str:
    log.seek(0)
    return tracking_uri.redact("\n".join(log.read().decode(errors="replace").splitlines()[-LOG_LINES:]))
