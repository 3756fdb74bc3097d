"""The process that sends a run's journal to MLflow, as the training process sees it: started, never waited for.

Between the two is one pipe. Its first line says where to send the run (an address may hold a password, which a
command line would show to everyone). Its end says that the training process is gone; without an end in the journal
the run was then killed. The sidecar has a session of its own, out of reach of the terminal's Ctrl-C; when it is
killed itself, `pipeline sync` sends the rest.
"""

import json
import logging
import os
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

from pipeline.errors import RunError
from pipeline.system.files import open_for_append
from pipeline.system.process import module_command
from pipeline.tracking import journal, sync_state, tracking_uri
from pipeline.tracking.shipping.sync_worker import BUSY, SyncJob
from pipeline.tracking.sync_state import JOURNAL, SyncState

LOG = "sidecar.log"
POLL_SECONDS = 0.1

log = logging.getLogger(__name__)


class Sidecar:
    """The training process's end of the pipe. Keep it: once it is deleted, the sidecar takes the training as ended."""

    def __init__(self, run_dir: Path, process: subprocess.Popen[bytes] | None) -> None:
        self.run_dir = run_dir
        self.process = process

    def wait(self, timeout_seconds: float, *, for_model: bool) -> SyncState:
        """Wait for the rest to arrive once the journal has its end, but no longer than `timeout_seconds`.

        The model takes its own time; it is waited for only with `for_model`.
        """
        if self.process is None:
            problem = "the process that sends the run to MLflow could not be started"
            return sync_state.read_sync_state(self.run_dir, problem=problem)
        if self.process.stdin is not None:
            self.process.stdin.close()
        deadline = time.monotonic() + timeout_seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            state = sync_state.read_sync_state(self.run_dir)
            if state.only_model_waiting and not for_model:
                return state
            time.sleep(POLL_SECONDS)
        code = self.process.poll()
        return sync_state.read_sync_state(self.run_dir, problem=None if code is None else _problem_of(code))


def start_sidecar(
    run_dir: Path,
    *,
    uri: str,
    artifacts: str | None,
    on_model: list[str] | None,
    on_validation: list[str] | None = None,
) -> Sidecar:
    """Start a sidecar. Never raises: without one the run goes on, and `pipeline sync` can send its journal later."""
    return launch_sync(
        run_dir, SyncJob(tracking_uri.absolute_uri(uri), artifacts, on_model, on_validation=on_validation)
    )


def launch_sync(run_dir: Path, job: SyncJob) -> Sidecar:
    """Start a process that does the job. Never raises."""
    try:
        with open_for_append(run_dir / LOG) as output:
            process = subprocess.Popen(
                module_command("pipeline.tracking.shipping.sync_worker", str(run_dir)),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        assert process.stdin is not None
        # A worker forked later must not keep the pipe open when the training process is gone.
        os.register_at_fork(after_in_child=process.stdin.close)
        process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
        process.stdin.flush()
    except OSError as error:
        log.warning("nothing is sent to MLflow for now (%s); the journal in %s keeps everything", error, run_dir)
        return Sidecar(run_dir, None)
    return Sidecar(run_dir, process)


def _problem_of(exit_code: int) -> str | None:
    if exit_code == BUSY:
        return "another process is sending this run at the moment"
    if exit_code != 0:
        return f"the process that sends the run to MLflow ended early (exit code {exit_code}); {LOG} may say why"
    return None


PATIENCE_SECONDS = 10.0
OTHER_WORKER_SECONDS = 60.0  # for the run's own sidecar, which sends the model when the training has just ended


def sync_run(
    run_dir: Path,
    *,
    uri: str,
    artifacts: str | None,
    on_model: list[str] | None,
    timeout_seconds: float = 600.0,
) -> SyncState:
    """Send the whole journal of a run to MLflow, each point once, and return what could not be sent.

    A run without an end becomes KILLED, unless it is still training. Raises RunError if there is no journal.
    """
    if not (run_dir / JOURNAL).exists():
        raise RunError(f"{run_dir} has no {JOURNAL}: that run never started, so there is nothing to send")
    if is_synced(run_dir, uri):
        return sync_state.read_sync_state(run_dir)
    job = SyncJob(
        tracking_uri.absolute_uri(uri),
        artifacts,
        on_model,
        follow=False,
        patience_seconds=PATIENCE_SECONDS,
        lock_seconds=0 if journal.is_open(run_dir / JOURNAL) else OTHER_WORKER_SECONDS,
    )
    return launch_sync(run_dir, job).wait(timeout_seconds, for_model=True)


def is_synced(run_dir: Path, uri: str) -> bool:
    """Tell whether the run has ended and everything is in this very store, as far as the run directory knows."""
    progress = sync_state.load_progress(run_dir)
    database = tracking_uri.sqlite_file(uri)
    if progress is None or progress.uri != tracking_uri.redact(tracking_uri.absolute_uri(uri)):
        return False
    return sync_state.read_sync_state(run_dir).complete and (database is None or database.exists())
