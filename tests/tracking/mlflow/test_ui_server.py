import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from pipeline.errors import UserError
from pipeline.tracking.mlflow import ui_server

SERVE = """# warm
import sys
from pipeline.tracking.mlflow.ui_server import serve_ui
sys.exit(serve_ui(sys.argv[1], None, int(sys.argv[2])))
"""


def test_links_open_the_pages_of_training_runs() -> None:
    assert ui_server.experiment_link("http://127.0.0.1:5000/", "3") == (
        "http://127.0.0.1:5000/#/experiments/3?workflowType=machine_learning"
    )
    assert ui_server.run_link("https://me:secret@host", "3", "abc") == (
        "https://***@host/#/experiments/3/runs/abc?workflowType=machine_learning"
    )


def test_for_a_server_only_the_link_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert ui_server.serve_ui("https://mlflow.example:5000", None, 5000, "experiments/1") == 0
    assert capsys.readouterr().out == ("https://mlflow.example:5000/#/experiments/1?workflowType=machine_learning\n")


def test_a_port_in_use_is_refused_with_the_next_free_one(sqlite_uri: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} is in use.*port=\d+") as caught:
            ui_server.serve_ui(sqlite_uri, None, port)
    proposed = int(str(caught.value).rpartition("=")[2])
    assert port < proposed < port + 100


@pytest.mark.cold  # warm ones have fork servers of their own beside them
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_ui_serves_with_few_processes_and_ends_them_all(tmp_path: Path, number: signal.Signals) -> None:
    uri = f"sqlite:///{tmp_path}/no store yet/mlflow.db"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, uri, str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert server.stdout is not None and server.stderr is not None
    assert server.stdout.readline() == f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning\n"
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        assert b"MLflow" in answer.read()
    children = psutil.Process(server.pid).children(recursive=True)
    assert len(children) == 2  # `mlflow server` and the one worker that it starts
    os.kill(server.pid, number)
    assert server.wait(10) == 0
    assert server.stderr.read() == ""
    assert psutil.wait_procs(children, timeout=5)[1] == []
