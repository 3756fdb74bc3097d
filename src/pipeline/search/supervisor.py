"""The process that stands over a search: it starts the workers, replaces those that die, and shows how far it is."""

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

from pipeline.errors import TrainingFailed
from pipeline.launch.devices import core_count, gpu_count, machine_is_busy
from pipeline.launch.units import seconds_of
from pipeline.search import directory as folders
from pipeline.search import study as studies
from pipeline.search.plan import Plan
from pipeline.search.storage import patiently
from pipeline.system.process import module_command

POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0
RECOVERY_SECONDS = 10.0
NO_SPACE = 28  # the exit code of a worker, or of a trial's process, that found the disk full
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
LOG_LINES = 10

Show = Callable[[list[FrozenTrial]], None]


class Driver:
    """Of the search in `folder`. `show` is given all trials whenever one may have changed.

    `names` are the numbers of its workers: all of this machine, or in a job of a cluster its own.
    """

    def __init__(self, plan: Plan, folder: Path, study: Study, show: Show, names: Sequence[int]) -> None:
        self.plan = plan
        self.names = names
        self.folder = folder
        self.study = study
        self.show = show
        self.stopped_by = 0  # the signal
        self.failed_starts = 0

    def run(self) -> None:
        """Until there are enough trials, the time is up, or Ctrl-C. Raises TrainingFailed after too many failures."""
        self._wait_for_earlier_workers()
        self._recover()
        limit = self.plan.settings.timeout
        deadline = None if limit is None else time.monotonic() + seconds_of(limit, "search.timeout")
        with ExitStack() as stack:
            for number in SIGNALS:
                stack.callback(signal.signal, number, signal.signal(number, self._stop))
            workers = {name: self._start(name) for name in self.names}
            stack.callback(_end, workers)
            while workers and not self.stopped_by:
                time.sleep(POLL_SECONDS)
                if deadline is not None and time.monotonic() > deadline:
                    (self.folder / folders.OVER).touch()
                self._look_after(workers)
                trials = self._trials()
                self.show(trials)
                folders.check_failures(self.plan, self.folder, trials)
        self._recover()
        self.show(self._trials())

    def _recover(self) -> None:
        patiently(lambda: folders.recover(self.study, self.plan, self.folder))
        self.recovered_at = time.monotonic()

    def _trials(self) -> list[FrozenTrial]:
        return patiently(lambda: self.study.get_trials(deepcopy=False))

    def _look_after(self, workers: "dict[int, subprocess.Popen[bytes]]") -> None:
        if time.monotonic() - self.recovered_at > RECOVERY_SECONDS:  # those of other machines, of which nobody hears
            self._recover()
        for name, worker in list(workers.items()):
            code = worker.poll()
            if code is None:
                continue
            del workers[name]
            self._recover()
            if code != 0 and not folders.is_over(self.folder):
                if code == NO_SPACE:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if code > 0:  # by itself: nothing of a trial runs in it
                    self.failed_starts += 1
                    if self.failed_starts > 1:
                        raise TrainingFailed(f"a worker of the search ended (exit code {code}):\n{self._log(name)}")
                workers[name] = self._start(name)

    def _start(self, name: int) -> "subprocess.Popen[bytes]":
        count = len(self.names)
        environment = dict(os.environ)
        environment.setdefault("OMP_NUM_THREADS", str(max(core_count() // count, 1)))
        if count > 1 or machine_is_busy():
            environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if gpus := _share(name, count):
            environment["CUDA_VISIBLE_DEVICES"] = gpus
        with self._log_path(name).open("ab") as log:
            return subprocess.Popen(
                module_command(
                    "pipeline.search.worker", str(self.folder), str(name), *self.plan.trust.arguments(self.folder)
                ),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C reaches it from here, and once
            )

    def _wait_for_earlier_workers(self) -> None:
        """Those of a driver that was killed end by themselves, soon."""
        deadline = time.monotonic() + GRACE_SECONDS
        own = {str(name) for name in self.names}
        while time.monotonic() < deadline:
            running = (trial for trial in self._trials() if trial.state == TrialState.RUNNING)
            workers = [trial.user_attrs.get(studies.WORKER, {}) for trial in running]
            if not any(worker.get("name") in own and folders.is_here(worker) for worker in workers):
                return
            time.sleep(POLL_SECONDS)

    def _log_path(self, name: int) -> Path:
        return self.folder / f"worker{name}.log"

    def _log(self, name: int) -> str:
        return "\n".join(self._log_path(name).read_text(errors="replace").splitlines()[-LOG_LINES:])

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopped_by = number


def _share(name: int, count: int) -> str:
    """Which GPUs this one of `count` workers has; "" where there are none to share out."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(number) for number in range(gpu_count())]
    if not devices or count == 1:
        return ""
    each = max(len(devices) // count, 1)
    first = (name * each) % len(devices)
    return ",".join(devices[first : first + each])


def _end(workers: "dict[int, subprocess.Popen[bytes]]") -> None:
    for worker in workers.values():
        worker.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in workers.values():
        try:
            worker.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
