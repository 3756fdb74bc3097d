"""The process that carries a run's journal to MLflow, as seen from the training process: without any hold on it.

Between them is one pipe. Its first line says where to ship to (an address may hold a password, which a command line
would show to everyone). Its end says that the training process is no more, which without an end in the journal means
that it was killed. The sidecar lives in a session of its own, out of reach of the terminal's Ctrl-C; killed itself,
it costs nothing that `sync` cannot mend.
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
from pipeline.tracking.shipping.sync_worker import BUSY, Errand
from pipeline.tracking.sync_state import JOURNAL, SyncState

LOG = "sidecar.log"
LOOK_SECONDS = 0.1

log = logging.getLogger(__name__)


class Sidecar:
    """The training process's hold on its sidecar. Keep it: letting go of it tells the sidecar that all is over."""

    def __init__(self, run_dir: Path, process: subprocess.Popen[bytes] | None) -> None:
        self.run_dir = run_dir
        self.process = process

    def wait(self, timeout_seconds: float, *, for_model: bool) -> SyncState:
        """To be called when the journal has its end: waits for the rest to arrive, but no longer than that.

        The model takes its own time; only with `for_model` it is waited for as well.
        """
        if self.process is None:
            return sync_state.state_of(self.run_dir, problem="the process that ships to MLflow could not be started")
        self._let_go()
        deadline = time.monotonic() + timeout_seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            state = sync_state.state_of(self.run_dir)
            if state.only_model_waiting and not for_model:
                return state
            time.sleep(LOOK_SECONDS)
        code = self.process.poll()
        return sync_state.state_of(self.run_dir, problem=None if code is None else _told_by(code))

    def _let_go(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()


def start(
    run_dir: Path,
    *,
    uri: str,
    artifacts: str | None,
    on_model: list[str] | None,
    on_validation: list[str] | None = None,
) -> Sidecar:
    """Never raises: without a sidecar the run goes on, and `sync` can ship its journal later."""
    return launch(run_dir, Errand(tracking_uri.absolute(uri), artifacts, on_model, on_validation=on_validation))


def launch(run_dir: Path, errand: Errand, *, module: str = "pipeline.tracking.shipping.sync_worker") -> Sidecar:
    try:
        with open_for_append(run_dir / LOG) as output:
            process = subprocess.Popen(
                module_command(module, str(run_dir)),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        assert process.stdin is not None
        # A worker forked later must not keep the pipe open when the training process is gone.
        os.register_at_fork(after_in_child=process.stdin.close)
        process.stdin.write(json.dumps(asdict(errand)).encode() + b"\n")
        process.stdin.flush()
    except OSError as error:
        log.warning("nothing is shipped to MLflow for now (%s); the journal in %s keeps everything", error, run_dir)
        return Sidecar(run_dir, None)
    return Sidecar(run_dir, process)


def _told_by(exit_code: int) -> str | None:
    if exit_code == BUSY:
        return "another process is shipping this run just now"
    if exit_code != 0:
        return f"the process that ships to MLflow ended early (exit code {exit_code}); {LOG} may say why"
    return None


PATIENCE_SECONDS = 10.0
OTHER_CARRIER_SECONDS = 60.0  # for the run's own, which is bringing the model when the training has just ended


def sync_run(
    run_dir: Path,
    *,
    uri: str,
    artifacts: str | None,
    on_model: list[str] | None,
    timeout_seconds: float = 600.0,
) -> SyncState:
    """Brings the run's journal into MLflow, all of it and each point once, and says what could not be brought.

    A run without an end becomes KILLED, unless it is still training. Raises RunError if there is no journal.
    """
    if not (run_dir / JOURNAL).exists():
        raise RunError(f"{run_dir} has no {JOURNAL}: that run never started, so there is nothing to ship")
    if is_complete(run_dir, uri):
        return sync_state.state_of(run_dir)
    errand = Errand(
        tracking_uri.absolute(uri),
        artifacts,
        on_model,
        follow=False,
        patience_seconds=PATIENCE_SECONDS,
        lock_seconds=0 if journal.is_open(run_dir / JOURNAL) else OTHER_CARRIER_SECONDS,
    )
    return launch(run_dir, errand).wait(timeout_seconds, for_model=True)


def is_complete(run_dir: Path, uri: str) -> bool:
    """Whether the run has ended and everything is in this very store, as far as the run directory knows."""
    shipped = sync_state.load(run_dir)
    database = tracking_uri.sqlite_file(uri)
    if shipped is None or shipped.uri != tracking_uri.redacted(tracking_uri.absolute(uri)):
        return False
    return sync_state.state_of(run_dir).complete and (database is None or database.exists())
