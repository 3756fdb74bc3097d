"""Whom the configuration of a run that somebody else made may send our password to: nobody whom we did not name."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.tracking import sidecar
from pipeline.tracking.journal import Journal
from pipeline.tracking.sync_state import SyncProgress, save_progress


class Listener(ThreadingHTTPServer):
    """Remembers the Authorization of every request, and refuses it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.heard: list[str | None] = []

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Request(BaseHTTPRequestHandler):
    server: Listener

    def do_GET(self) -> None:
        self.server.heard.append(self.headers["Authorization"])
        self.send_error(403)

    def do_POST(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """`heard` tells."""


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as listener:
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield listener
        listener.shutdown()


@pytest.fixture
def run(empty_folder: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of this user's that has ended and goes to that server; a token is set."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(["train", "launch=slurm", "launch.dry_run=true", f"tracking.uri={listener.uri}"]) == 0
    (folder,) = (empty_folder / "runs").iterdir()
    (folder / "job.json").unlink()
    ended = {"status": "FINISHED", "metrics": {}, "best_checkpoint": None, "mlflow_run_id": None, "seconds": 1.0}
    (folder / "result.json").write_text(json.dumps({**ended, "command": None}))
    devices = {"count": 1, "kind": "cpu", "precision": "32-true"}
    assembled = {"data": None, "model": {"name": "x", "parameters": 1}, "devices": devices}
    (folder / "assembled.json").write_text(json.dumps(assembled))
    journal = Journal(folder / "journal.jsonl")
    journal.start(name="x", experiment="x", run_uid=folder.name, params={}, tags={})
    journal.end("FINISHED")
    journal.close()
    save_progress(folder, SyncProgress(listener.uri))
    monkeypatch.setattr(sidecar.Sidecar, "wait", short_wait(sidecar.Sidecar.wait))
    return folder


def short_wait(wait: Callable[..., object]) -> Callable[..., object]:
    return lambda self, timeout_seconds, *, for_model: wait(self, 3.0, for_model=for_model)


def of_another(run: Path) -> None:
    """As if it had come out of an archive."""
    (run / "seal.txt").unlink()


@pytest.mark.parametrize(
    "verb, code",
    [
        (("sync",), 2),
        (("sync", "run=all"), 1),
        (("register", "name=x"), 2),
        (("resume", "trainer.max_epochs=30"), 2),
        (("ui",), 2),
        (("report",), 0),  # the page is made, and stays here
        (("evaluate", "run=models:/x@champion"), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_nothing_goes_to_a_server_that_another_users_run_names(
    run: Path, listener: Listener, capfd: pytest.CaptureFixture[str], verb: tuple[str, ...], code: int
) -> None:
    of_another(run)
    named = () if any(word.startswith("run=") for word in verb) else (f"run={run.name}",)
    assert main([*verb, *named]) == code
    said = capfd.readouterr()
    if "models:/" not in " ".join(verb):
        assert f"names tracking.uri={listener.uri}" in said.out + said.err
        assert f"run={run.name} tracking.uri={listener.uri}" in said.out + said.err
    assert listener.heard == []


def test_no_artifact_store_that_another_users_run_names_is_used(
    run: Path, listener: Listener, capfd: pytest.CaptureFixture[str]
) -> None:
    config = run / "config.yaml"
    config.write_text(re.sub("artifacts: .*", "artifacts: http://files.example", config.read_text()))
    assert main(["sync", f"run={run.name}", f"tracking.uri={listener.uri}"]) == 2
    assert "tracking.artifacts=http://files.example" in capfd.readouterr().err
    assert listener.heard == []


def test_a_server_that_is_typed_or_in_the_environment_is_used(
    run: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_another(run)
    main(["sync", f"run={run.name}", f"tracking.uri={listener.uri}"])
    assert set(listener.heard) == {"Bearer secret"}
    listener.heard.clear()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", listener.uri)
    main(["sync", f"run={run.name}"])
    assert set(listener.heard) == {"Bearer secret"}


def test_a_run_of_this_user_is_sent_to_the_store_that_it_names(run: Path, listener: Listener) -> None:
    main(["sync", f"run={run.name}"])
    assert set(listener.heard) == {"Bearer secret"}


LOOKING = (
    "runs",
    "runs show",
    "logs",
    "report",
    "compare runs=a,b",
    "sync",
    "sync run=all",
    "register name=x",
    "cancel",
)
LOOKING = (*LOOKING, "ui", "search list", "search show", "resume", "evaluate", "diagnose")


@pytest.mark.parametrize("verb", LOOKING)
def test_a_verb_that_looks_at_runs_makes_no_folder_for_them(
    empty_folder: Path, capfd: pytest.CaptureFixture[str], verb: str
) -> None:
    assert main([*verb.split(), "runs_dir=nosuch"]) == 2
    assert "nosuch" in capfd.readouterr().err
    assert list(empty_folder.iterdir()) == []
