"""The supervisor of a search: it starts the workers, replaces those that die, and reports progress."""

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.durations import parse_duration
from pipeline.errors import TrainingFailed
from pipeline.launch.devices import core_count, gpu_count, machine_is_busy
from pipeline.search.directory import (
    STOP_FILE,
    check_trial_failures,
    is_alive_here,
    is_search_stopped,
    recover_trials,
)
from pipeline.search.plan import Plan
from pipeline.search.storage import with_retry
from pipeline.search.study import WORKER
from pipeline.system.process import module_command

POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0
RECOVERY_SECONDS = 10.0
DISK_FULL_EXIT_CODE = 28  # of a worker, or of a trial's process
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
LOG_LINES = 10


class Supervisor:
    """Runs the workers of one session; `on_update` is called with all trials, again and again.

    `worker_numbers` are those of all workers on this machine; in a job of a cluster, the one of the job.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        study: Study,
        on_update: Callable[[list[FrozenTrial]], None],
        worker_numbers: Sequence[int],
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.study = study
        self.on_update = on_update
        self.worker_numbers = worker_numbers
        self.stopped_by = 0  # the signal
        self.failed_starts = 0
        self.recovered_at = 0.0

    def run(self) -> None:
        """Return when there are enough trials, the time is up, or a signal came.

        Raises TrainingFailed after too many failures.
        """
        self._wait_for_earlier_workers()
        self._recover()
        timeout = self.plan.settings.timeout
        deadline = None if timeout is None else time.monotonic() + parse_duration(timeout, "search.timeout")
        with ExitStack() as stack:
            for number in STOP_SIGNALS:
                stack.callback(signal.signal, number, signal.signal(number, self._stop))
            workers = {number: self._start(number) for number in self.worker_numbers}
            stack.callback(_terminate, workers)
            while workers and not self.stopped_by:
                time.sleep(POLL_SECONDS)
                if deadline is not None and time.monotonic() > deadline:
                    (self.folder / STOP_FILE).touch()
                self._replace_dead_workers(workers)
                trials = self._trials()
                self.on_update(trials)
                check_trial_failures(self.plan, self.folder, trials)
        self._recover()
        self.on_update(self._trials())

    def _recover(self) -> None:
        with_retry(lambda: recover_trials(self.study, self.plan, self.folder))
        self.recovered_at = time.monotonic()

    def _trials(self) -> list[FrozenTrial]:
        return with_retry(lambda: self.study.get_trials(deepcopy=False))

    def _replace_dead_workers(self, workers: "dict[int, subprocess.Popen[bytes]]") -> None:
        if time.monotonic() - self.recovered_at > RECOVERY_SECONDS:  # also the trials of other machines
            self._recover()
        for number, worker in list(workers.items()):
            code = worker.poll()
            if code is None:
                continue
            del workers[number]
            self._recover()
            if code != 0 and not is_search_stopped(self.folder):
                if code == DISK_FULL_EXIT_CODE:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if code > 0:  # the worker itself failed: trials run in processes of their own
                    self.failed_starts += 1
                    if self.failed_starts > 1:
                        log = "\n".join(self._log_path(number).read_text(errors="replace").splitlines()[-LOG_LINES:])
                        raise TrainingFailed(f"a worker of the search ended (exit code {code}):\n{log}")
                workers[number] = self._start(number)

    def _start(self, number: int) -> "subprocess.Popen[bytes]":
        count = len(self.worker_numbers)
        environment = dict(os.environ)
        environment.setdefault("OMP_NUM_THREADS", str(max(core_count() // count, 1)))
        if count > 1 or machine_is_busy():
            environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if gpus := _gpu_share(number, count):
            environment["CUDA_VISIBLE_DEVICES"] = gpus
        arguments = (str(self.folder), str(number), *self.plan.trust.arguments(self.folder))
        with self._log_path(number).open("ab") as log:
            return subprocess.Popen(
                module_command("pipeline.search.worker", *arguments),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C reaches it once, through this process
            )

    def _wait_for_earlier_workers(self) -> None:
        """Wait for the workers of a supervisor that was killed; they notice it, and end soon."""
        deadline = time.monotonic() + GRACE_SECONDS
        own = {str(number) for number in self.worker_numbers}
        while time.monotonic() < deadline:
            running = (trial for trial in self._trials() if trial.state == TrialState.RUNNING)
            workers = [trial.user_attrs.get(WORKER, {}) for trial in running]
            if not any(worker.get("name") in own and is_alive_here(worker) for worker in workers):
                return
            time.sleep(POLL_SECONDS)

    def _log_path(self, number: int) -> Path:
        return self.folder / f"worker{number}.log"

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopped_by = number


def _gpu_share(number: int, count: int) -> str:
    """Return CUDA_VISIBLE_DEVICES for this one of `count` workers; "" where there is nothing to share."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(index) for index in range(gpu_count())]
    if not devices or count == 1:
        return ""
    per_worker = max(len(devices) // count, 1)
    first = (number * per_worker) % len(devices)
    return ",".join(devices[first : first + per_worker])


def _terminate(workers: "dict[int, subprocess.Popen[bytes]]") -> None:
    for worker in workers.values():
        worker.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in workers.values():
        try:
            worker.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
