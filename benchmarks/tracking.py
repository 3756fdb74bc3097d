"""What tracking costs the training, and what the processes beside it do, with servers that fail."""

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.figure import Figure
from pipeline.tracking import sidecar, sync_state
from pipeline.tracking.journal import Journal
from pipeline.tracking.mlflow.mlflow_client import mlflow_client
from pipeline.tracking.sync_state import JOURNAL

VALUES = {f"train/metric_{number:02}": number / 7 for number in range(20)}
STEPS = 10_000
STEP_SECONDS = 0.010
CONDITIONS = ("healthy", "slow", "dead", "absent")
SLOW_SECONDS = 2.0


def tracking(folder: Path | None) -> Iterator[Figure]:
    """Over sqlite and over MLflow's server: what a call costs, what a sidecar takes, whether all of it arrives."""
    with tempfile.TemporaryDirectory() as root, server(Path(root)) as (uri, kill):
        yield from _arrival(Path(root, "sqlite"), f"sqlite:///{root}/own.db", "sqlite", 250)
        yield from _arrival(Path(root, "server"), uri, "a server", 60)
        yield from _logging(Path(root, "killed"), uri, kill)


def tracked_steps(folder: Path | None) -> Iterator[Figure]:
    """Steps of 10 ms that log 20 metrics each, against the same steps without, while a server is in each condition."""
    for condition in CONDITIONS:
        with tempfile.TemporaryDirectory() as root, road(condition) as uri:
            pairs = _steps(Path(root), uri)
            ours, bare = (statistics.median(each) * 1000 for each in zip(*pairs, strict=True))
            cost = statistics.median(1 - other / mine for mine, other in pairs) * 100
            yield Figure(
                f"20 metrics on every step, {condition} server: share of a 10 ms step",
                f"{ours:.3f} ms",
                f"{bare:.3f} ms",
                cost,
                1.0,
                "lower",
                " %",
            )


def ui(folder: Path | None) -> Iterator[Figure]:
    """`pipeline ui` on a store that is there, until its first page can be opened."""
    with tempfile.TemporaryDirectory() as root:
        uri = f"sqlite:///{root}/runs/mlflow.db"
        _ship(Path(root, "runs", "run"), uri, steps=10)
        port = _free_port()
        started_at = time.monotonic()
        command = [sys.executable, "-m", "pipeline", "ui", f"port={port}"]
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            seconds = time.monotonic() - started_at
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            process.terminate()
        yield Figure("pipeline ui: until it answers", f"{seconds:.1f} s", None, seconds, 10, "lower", " s")
        yield Figure("pipeline ui: processes", str(len(family)), None, len(family), 3, "lower")


def _arrival(run_dir: Path, uri: str, what: str, most_megabytes: float) -> Iterator[Figure]:
    seconds, megabytes = _ship(run_dir, uri, steps=STEPS)
    state = sync_state.read_sync_state(run_dir)
    client = mlflow_client(uri)
    stored = sum(len(client.get_metric_history(str(state.mlflow_run_id), name)) for name in VALUES)
    written = STEPS * len(VALUES)
    speed = written / seconds
    yield Figure(f"sidecar into {what}: metrics a second", f"{speed:,.0f}/s", None, speed, 1_000, "higher", "/s")
    yield Figure(f"sidecar into {what}: memory", f"{megabytes:.0f} MB", None, megabytes, most_megabytes, "lower", " MB")
    share = 100 * stored / written
    yield Figure(f"{STEPS:,} steps x 20 metrics in {what}: arrived", f"{stored:,}", None, share, 100, "higher", " %")


def _ship(run_dir: Path, uri: str, *, steps: int) -> tuple[float, float]:
    """(seconds until all has arrived, most memory in MB of the sidecar and what it started) for a run of `steps`."""
    journal = _begin(run_dir)
    for step in range(steps):
        journal.metrics(VALUES, step=step, epoch=0)
    journal.end("FINISHED")
    journal.close()
    started_at, most = time.monotonic(), 0.0
    handle = sidecar.start_sidecar(run_dir, uri=uri, artifacts=None, on_model=None)
    assert handle.process is not None
    process = psutil.Process(handle.process.pid)
    while not sync_state.read_sync_state(run_dir).complete:
        with suppress(psutil.Error):
            family = [process, *process.children(recursive=True)]
            most = max(most, sum(each.memory_info().rss for each in family) / 1e6)
        time.sleep(0.5)
    seconds = time.monotonic() - started_at
    handle.wait(60, for_model=False)
    return seconds, most


def _logging(run_dir: Path, uri: str, kill: Callable[[], None]) -> Iterator[Figure]:
    """5,000 calls, at the rate of a fast training; the server is killed in their middle."""
    journal = _begin(run_dir)
    handle = sidecar.start_sidecar(run_dir, uri=uri, artifacts=None, on_model=None)
    seconds = []
    for step in range(5_000):
        if step == 2_500:
            threading.Thread(target=kill).start()
        begun_at = time.perf_counter()
        journal.metrics(VALUES, step=step, epoch=0)
        seconds.append(time.perf_counter() - begun_at)
        _work(0.001)
    assert handle.process is not None
    handle.process.kill()
    median, longest = statistics.median(seconds) * 1000, max(seconds) * 1000
    yield Figure("logging 20 metrics: median", f"{median:.3f} ms", None, median, 0.15, "lower", " ms")
    yield Figure("logging 20 metrics, server killed: longest", f"{longest:.2f} ms", None, longest, 5, "lower", " ms")


def _steps(run_dir: Path, uri: str) -> list[tuple[float, float]]:
    """(with, without): mean seconds of a step, by turns of 50 that each go first as often, on the same machine."""
    journal = _begin(run_dir / "run")
    handle = sidecar.start_sidecar(run_dir / "run", uri=uri, artifacts=None, on_model=None)
    time.sleep(3)  # for the sidecar to be at work
    pairs, step = [], 0
    for number in range(24):
        turns = {}
        for logs in (True, False) if number % 2 else (False, True):
            begun_at = time.perf_counter()
            for step in range(step, step + 50):  # noqa: B020
                _work(STEP_SECONDS)
                if logs:
                    journal.metrics(VALUES, step=step, epoch=0)
            turns[logs] = (time.perf_counter() - begun_at) / 50
        pairs.append((turns[True], turns[False]))
    assert handle.process is not None
    handle.process.kill()
    journal.close()
    return pairs


def _work(seconds: float) -> None:
    """Takes that long by the clock, busy as the processor is while it feeds an accelerator."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def _begin(run_dir: Path) -> Journal:
    run_dir.mkdir(parents=True)
    journal = Journal(run_dir / JOURNAL)
    journal.start(name="cnn", experiment="bench", run_uid=run_dir.name, params={}, tags={})
    return journal


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """(address, how to kill it) of MLflow's server over a sqlite database."""
    port = _free_port()
    code = (
        "import sys; from pipeline.tracking.mlflow.ui_server import serve_ui; "
        "sys.exit(serve_ui(sys.argv[1], None, int(sys.argv[2])))"
    )
    command = [sys.executable, "-c", code, f"sqlite:///{folder}/server.db", str(port)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        # Known beforehand: to look for them takes the interpreter from the calls that are measured meanwhile.
        family = [process.pid]

        def kill() -> None:
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

        assert process.stdout is not None
        process.stdout.readline()
        family += [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        try:
            yield f"http://127.0.0.1:{port}", kill
        finally:
            kill()


@contextmanager
def road(condition: str) -> Iterator[str]:
    """The address of a server in this condition: slow ones answer after two seconds, absent ones never."""
    if condition == "healthy":
        with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as (uri, _):
            yield uri
        return
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if condition != "dead":
            listener.listen(64)
        if condition == "slow":
            threading.Thread(target=_answer_slowly, args=[listener], daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _answer_slowly(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            visitor, _ = listener.accept()
            with visitor, suppress(OSError):
                visitor.recv(1 << 20)
                time.sleep(SLOW_SECONDS)
                visitor.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
