"""Many short runs on one machine that share one store."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.tracking.processes import TRAINING, find_run

from pipeline.tracking import sync_state
from pipeline.tracking.mlflow import shared_client
from pipeline.tracking.mlflow.mlflow_client import quiet_mlflow

RUNS, AT_ONCE, STEPS = 64, 8, 150
TOGETHER_MEGABYTES = 500


class Watch:
    """The most memory that what ships to this store ever held together, in MB; shared pages count for each process."""

    def __init__(self, folder: Path, uri: str) -> None:
        quiet_mlflow()  # as the sidecars do: the socket's path depends on such settings
        self.marks = (str(folder), str(shared_client.socket_path(uri)))
        self.most = 0.0
        self.is_over = threading.Event()

    def __enter__(self) -> "Watch":
        self.thread = threading.Thread(target=self._look)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        self.thread.join()

    def _look(self) -> None:
        while not self.is_over.wait(0.2):
            self.most = max(self.most, sum(self._megabytes()))

    def _megabytes(self) -> Iterator[float]:
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # it has just ended
                line = " ".join(process.cmdline())
                is_training = "import sys" in line
                if "pipeline.tracking." in line and not is_training and any(mark in line for mark in self.marks):
                    yield process.memory_info().rss / 1e6


@pytest.mark.cold  # what is imported counts
@pytest.mark.slow
def test_sixty_four_runs_eight_at_once_lose_nothing_and_their_sidecars_together_stay_small(
    tmp_path: Path, contents: Callable[[str], Any]
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"  # not made yet: eight want it at once
    folders = [tmp_path / f"run-{number}" for number in range(RUNS)]

    def train(folder: Path) -> subprocess.CompletedProcess[str]:
        folder.mkdir()
        command = [sys.executable, "-c", TRAINING, str(folder), uri, str(STEPS)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)

    with Watch(tmp_path, uri) as watch, ThreadPoolExecutor(AT_ONCE) as pool:
        ended = list(pool.map(train, folders))
    assert [each.stderr for each in ended] == [""] * RUNS
    deadline = time.monotonic() + 120
    while not all(sync_state.read_sync_state(folder).complete for folder in folders) and time.monotonic() < deadline:
        time.sleep(0.5)
    for folder in folders:
        run = find_run(uri, folder)
        assert run.info.status == "FINISHED"
        expected = [(step, float(step)) for step in range(STEPS)]
        assert sorted(contents(uri).points(run.info.run_id, "loss")) == expected
        assert "ERROR" not in (folder / "sidecar.log").read_text()
    print(f"sidecars together: {watch.most:.0f} MB at most")
    assert watch.most < TOGETHER_MEGABYTES
