"""The process that carries a run's journal to MLflow, beside the training and without any hold on it.

`start` is called by the training process; `main` is the other side. Between them is one pipe: its first line says
where to ship to (an address may hold a password, which a command line would show to everyone), and its end says that
the training process is no more, which without an end in the journal means that it was killed. The sidecar lives in a
session of its own, out of reach of the terminal's Ctrl-C; killed itself, it costs nothing that `sync` cannot mend.
"""

import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipeline.errors import TrackingError
from pipeline.files import locked
from pipeline.tracking import address, journal, progress
from pipeline.tracking.mlflow_store import MlflowStore
from pipeline.tracking.progress import LOCK, Progress, SyncState
from pipeline.tracking.replica import Replica
from pipeline.tracking.uploads import Uploads

LOG = "sidecar.log"
NICENESS = 10
TICK_SECONDS = 1.0
BUSY_SECONDS = 0.1
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
PATIENCE_SECONDS = 3_600.0
BUSY = 3  # exit code: the run's lock is taken

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Errand:
    """What a sidecar is told. With `follow` it stays until the run has ended, else it ships what there is and goes.

    Once the run has ended, or without `follow`, it gives up when the store has not answered for `patience_seconds`.
    """

    uri: str
    artifacts: str | None
    on_model: list[str] | None
    follow: bool = True
    patience_seconds: float = PATIENCE_SECONDS


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
            return progress.state_of(self.run_dir, problem="the process that ships to MLflow could not be started")
        self._let_go()
        deadline = time.monotonic() + timeout_seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            state = progress.state_of(self.run_dir)
            if state.only_model_waiting and not for_model:
                return state
            time.sleep(BUSY_SECONDS)
        code = self.process.poll()
        return progress.state_of(self.run_dir, problem=None if code is None else _told_by(code))

    def _let_go(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()


def _told_by(exit_code: int) -> str | None:
    if exit_code == BUSY:
        return "another process is shipping this run just now"
    if exit_code != 0:
        return f"the process that ships to MLflow ended early (exit code {exit_code}); {LOG} may say why"
    return None


def start(run_dir: Path, *, uri: str, artifacts: str | None, on_model: list[str] | None) -> Sidecar:
    """Never raises: without a sidecar the run goes on, and `sync` can ship its journal later."""
    return launch(run_dir, Errand(address.absolute(uri), artifacts, on_model))


def launch(run_dir: Path, errand: Errand) -> Sidecar:
    try:
        with (run_dir / LOG).open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.tracking.sidecar", str(run_dir)],
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


class Pipe:
    """The sidecar's end of the pipe from the training process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.is_closed = False

    def errand(self) -> Errand:
        line = b""
        while not line.endswith(b"\n"):
            piece = os.read(self._descriptor, 65_536)
            if not piece:
                raise EOFError("the training process ended before it said where to ship to")
            line += piece
        return Errand(**json.loads(line))

    def pause(self, seconds: float) -> None:
        """Sleeps, and wakes when the training process goes."""
        if self.is_closed:
            time.sleep(seconds)
        elif select.select([self._descriptor], [], [], seconds)[0]:
            self.is_closed = not os.read(self._descriptor, 1)


def carry(run_dir: Path, errand: Errand, pipe: Pipe) -> None:
    """Ships until the run has ended and everything has arrived, or until patience is at its end."""
    replica: Replica | None = None
    uploads: Uploads | None = None
    failures = 0
    answered_at = time.monotonic()
    while True:
        try:
            if replica is None or uploads is None:
                replica = Replica(run_dir, MlflowStore(errand.uri, errand.artifacts))
                uploads = Uploads(replica, errand.on_model)
            replica.ship()
            busy = uploads.ship_next()
            if not busy and pipe.is_closed and _is_over(replica, follow=errand.follow):
                return
            failures, answered_at = 0, time.monotonic()
            pipe.pause(BUSY_SECONDS if busy else TICK_SECONDS)
        except Exception as problem:  # whatever it is, a later try may go well, and nobody else will make it
            if not isinstance(problem, TrackingError):
                log.exception("unexpected")
            _note_problem(run_dir, errand, replica, address.redacted(str(problem)))
            if pipe.is_closed and time.monotonic() - answered_at > errand.patience_seconds:
                log.warning("giving up: `pipeline sync` ships the rest later")
                return
            pipe.pause(min(FIRST_PAUSE_SECONDS * 2**failures, LONGEST_PAUSE_SECONDS))
            failures += 1


def _is_over(replica: Replica, *, follow: bool) -> bool:
    """Asked when all that could be seen is shipped and the training process that started us has let go."""
    if replica.progress.status is not None:
        return True
    if journal.is_open(replica.journal):
        # The training process is about to go, or another one has resumed the run; only one that follows cares.
        return not follow
    if any(journal.read(replica.journal, replica.progress.offset)) and replica.run_id is not None:
        return False  # written since we looked
    replica.mark_killed()
    return True


def _note_problem(run_dir: Path, errand: Errand, replica: Replica | None, problem: str) -> None:
    if replica is not None:
        replica.note_problem(problem)
        return
    so_far = progress.load(run_dir) or Progress(address.redacted(errand.uri))
    if so_far.problem != problem:
        log.warning("%s", problem)
        progress.save(run_dir, replace(so_far, problem=problem))


class RedactingFormatter(logging.Formatter):
    """mlflow names whole addresses in its messages and tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        return address.redacted(super().format(record))


def main() -> int:
    run_dir = Path(sys.argv[1])
    os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.captureWarnings(True)
    pipe = Pipe(sys.stdin.fileno())
    errand = pipe.errand()
    try:
        with locked(run_dir / LOCK, timeout_seconds=None if errand.follow else 0):
            carry(run_dir, errand, pipe)
    except TimeoutError:
        return BUSY
    return 0


if __name__ == "__main__":
    sys.exit(main())
