"""One of a search's processes: `python -m pipeline.search.worker FOLDER NAME`, started by the driver.

It imports everything once and forks a process for each trial, which therefore starts at once and takes all it did
(memory, threads, seeds, open files) with it when it ends. In here nothing is computed, so that what is forked has no
threads and no accelerator in use, with which it could not go on.
"""

import errno
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import torch
from omegaconf import DictConfig
from optuna.trial import FrozenTrial, Trial, TrialState

from pipeline.config.frozen import TrustPolicy
from pipeline.data.datamodule import DataModule
from pipeline.errors import DONE, FAILED, ConfigError, DataError, TrainingFailed, UserError
from pipeline.launch.devices import process_count
from pipeline.launch.local import free_port
from pipeline.lifecycle.console import log_to_file
from pipeline.lifecycle.exit_codes import DISK_FULL, find_os_error
from pipeline.runs import environment
from pipeline.runs.run_directory import Run
from pipeline.search import directory as folders
from pipeline.search import plan as plans
from pipeline.search import storage
from pipeline.search import study as studies
from pipeline.search import trial as trials
from pipeline.search.optuna_private import id_of, storage_of
from pipeline.search.space import Picked
from pipeline.search.storage import patiently
from pipeline.search.supervisor import NO_SPACE, SIGNALS
from pipeline.system.process import Rank, add_working_directory_to_path, exit_with_parent, rank_environment
from pipeline.training.callbacks.monitored_metric import NoSuchMetric

POLL_SECONDS = 0.01
GRACE_SECONDS = 10.0  # for the other processes of a trial, once one of them has failed


class Stopped(Exception):
    """The driver, a scheduler or Ctrl-C wants this process to end."""


class Worker:
    """Trains one trial after another, until there are enough or it is told to end."""

    def __init__(self, folder: Path, name: str, trust: TrustPolicy) -> None:
        self.folder = folder
        self.name = name
        self.parent = os.getppid()
        self.threads = torch.get_num_threads()  # as OMP_NUM_THREADS says, if it says a number
        torch.set_num_threads(1)  # this process forks
        self.plan = plans.load(folder, trust)
        self.study = studies.open_study(self.plan, folder)
        self.facts = {
            "choices": {},
            **environment.describe_environment(["pipeline", "search", f"name={folder.name}"]),
        }
        self.loaded: DataModule | None = None  # the data of the trial before, which is mostly that of the next

    def work(self) -> None:
        """Raises Stopped."""
        wanted = studies.total(self.plan)
        while not folders.is_over(self.folder) and os.getppid() == self.parent and not self._is_in_vain():
            trial = patiently(lambda: self._ask(wanted))
            if trial is not None:
                self._train(trial)
            elif patiently(self._others_may_fail):
                time.sleep(1.0)
            else:
                return

    def _ask(self, wanted: int) -> Trial | None:
        """A signal that comes meanwhile waits until `_train` has the trial, and can put it back."""
        trial = None
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            trial = studies.ask(self.study, self.plan, wanted)
        finally:
            if trial is None:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return trial

    def _is_in_vain(self) -> bool:
        """What the driver gives up for, which on a busy machine may look when a hundred trials have failed."""
        try:
            folders.check_failures(self.plan, self.folder, patiently(lambda: self.study.get_trials(deepcopy=False)))
        except (ConfigError, TrainingFailed):
            return True
        return False

    def _others_may_fail(self) -> bool:
        """What is under way elsewhere may leave work for this one."""
        return any(trial.state == TrialState.RUNNING for trial in self.study.get_trials(deepcopy=False))

    def _train(self, trial: Trial) -> None:
        processes: list[int] = []
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            patiently(lambda: trial.set_user_attr(studies.WORKER, folders.identity(self.name)))
            self._live(trial)
            picked = patiently(lambda: self.plan.space.pick(trial, self.plan.settled))
            config = self.plan.config_of(picked)
            run = folders.trial_run(self.folder, trial.number, self.plan, picked, config, self.facts)
            self.loaded = trials.prepare(config, self.loaded)
            processes = self._fork(run, config, trial, picked)
            problem = self._wait(processes, trial)
        except Stopped:
            for process in processes:
                _end(process)
            patiently(lambda: studies.stop(self.study, self._frozen(trial)))
            raise
        except UserError as mistake:
            problem = str(mistake)
        patiently(lambda: folders.settle(self.study, self.plan, self._frozen(trial), self.folder, problem))

    def _live(self, trial: Trial) -> None:
        storage.beat(self.study, self.folder, id_of(trial), trial.number)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return storage_of(self.study).get_trial(id_of(trial))

    def _fork(self, run: Run, config: DictConfig, trial: Trial, picked: Picked) -> list[int]:
        devices = config.trainer.devices
        devices = list(devices) if not isinstance(devices, int | str) else devices
        count = process_count(devices, config.trainer.accelerator)
        port = free_port()
        found = []
        for rank in range(count):
            process = os.fork()
            if process == 0:
                self._become(Rank(rank, count, rank, count), port, run, config, trial, picked)
            found.append(process)
        return found

    def _become(self, here: Rank, port: int, run: Run, config: DictConfig, trial: Trial, picked: Picked) -> NoReturn:
        """This process is one of a trial's, and ends here."""
        code = FAILED
        try:
            _stand_alone(here, port, run, max(self.threads // here.world_size, 1))
            storage.forget_connections(self.study)
            study = studies.open_study(self.plan, self.folder) if here.is_first else None
            watch = trials.Watch(study, id_of(trial), self.plan, config.checkpoint)
            said = trials.start_record(self.plan, trial.number, picked, config, self.folder.name)
            trials.train(run, config, here, watch, said, self.loaded)
            code = 0
        except UserError as mistake:
            print(f"error: {mistake}", file=sys.stderr)
            if isinstance(mistake, NoSuchMetric) and here.is_first:
                folders.refuse(self.folder, str(mistake))
            if isinstance(mistake, ConfigError | DataError) and here.is_first:
                folders.note_mistake(run, str(mistake))
        except BaseException as problem:  # noqa: BLE001  whatever it is, it is told where the trial's output goes
            code = FAILED if find_os_error(problem, DISK_FULL) is None else NO_SPACE
            if here.is_first:
                folders.note_failure(run, f"{type(problem).__name__}: {problem}".partition("\n")[0])
            with suppress(OSError):
                traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _wait(self, processes: list[int], trial: Trial) -> str | None:
        """Until all are done, with a sign of life now and then; what went wrong first, or None."""
        left, problem, failed_at, lived_at = list(processes), None, 0.0, time.monotonic()
        while left:
            if time.monotonic() - lived_at > storage.BEAT_SECONDS:
                self._live(trial)
                lived_at = time.monotonic()
            if os.getppid() != self.parent:
                raise Stopped
            for process in list(left):
                done, status = os.waitpid(process, os.WNOHANG)
                if done:
                    left.remove(process)
                    code = os.waitstatus_to_exitcode(status)
                    if code == NO_SPACE:  # neither its fault nor to be told to the study, which has no room either
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    if code != 0 and problem is None:
                        problem, failed_at = _in_words(code), time.monotonic()
            if problem is not None and left and time.monotonic() - failed_at > GRACE_SECONDS:
                for process in left:
                    _end(process)
                return problem
            time.sleep(POLL_SECONDS)
        return problem


def main(folder: Path, name: str, trust: TrustPolicy) -> int:
    for number in SIGNALS:
        signal.signal(number, _stop)
    add_working_directory_to_path()
    try:
        Worker(folder, name, trust).work()
    except Stopped:
        return DONE
    except UserError as problem:  # the study is lost: the driver has noticed, too, and tells
        print(f"error: {problem}", file=sys.stderr)
        return FAILED
    except OSError as problem:
        if find_os_error(problem, DISK_FULL) is None:
            raise
        return NO_SPACE
    return DONE


def _stand_alone(here: Rank, port: int, run: Run, threads: int) -> None:
    """After the fork: signals, output, threads and environment are this process's own."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a scheduler tells all processes; the worker ends this one
    _write_to(run.log_path if here.is_first else run.folder / f"rank{here.rank}.log")
    exit_with_parent(grace_seconds=1.0)
    if here.world_size > 1:
        os.environ.update(rank_environment(here, master_address="127.0.0.1", master_port=port))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    log_to_file(run.folder / "trial.log")


def _in_words(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _end(process: int) -> None:
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _write_to(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _stop(number: int, frame: FrameType | None) -> None:
    """Once: a scheduler tells all processes, and then the driver tells this one, which is putting its trial back."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise Stopped


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], TrustPolicy.from_arguments(sys.argv[3:])))
