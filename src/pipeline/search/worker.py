"""One worker of a search, started by the supervisor: `python -m pipeline.search.worker FOLDER NAME`.

It imports everything once and forks a process for each trial. A trial therefore starts at once, and all of it (memory,
threads, seeds, open files) is gone when it ends. The worker itself computes nothing: a process that has started threads
or uses an accelerator cannot fork.
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
from pipeline.runs.environment import describe_environment
from pipeline.runs.run_directory import Run
from pipeline.search import directory
from pipeline.search.optuna_private import study_storage, trial_id_of
from pipeline.search.plan import load_plan
from pipeline.search.space import Params
from pipeline.search.storage import HEARTBEAT_SECONDS, drop_inherited_connections, record_heartbeat, with_retry
from pipeline.search.study import WORKER, ask_for_trial, mark_stopped, open_study, total_trials
from pipeline.search.supervisor import DISK_FULL_EXIT_CODE, STOP_SIGNALS
from pipeline.search.trial import PruningCallback, preload_data, train_trial, trial_record
from pipeline.system.files import write_atomically
from pipeline.system.process import Rank, add_working_directory_to_path, exit_with_parent, rank_environment
from pipeline.training.callbacks.monitored_metric import NoSuchMetric

POLL_SECONDS = 0.01
GRACE_SECONDS = 10.0  # for the other processes of a trial, after one of them has failed
LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class StopRequested(Exception):
    """The supervisor, a scheduler or Ctrl-C wants this process to end."""


class Worker:
    """Trains one trial after another, until there are enough or a signal stops it."""

    def __init__(self, folder: Path, name: str, trust: TrustPolicy) -> None:
        self.folder = folder
        self.name = name
        self.parent = os.getppid()
        self.threads = torch.get_num_threads()  # OMP_NUM_THREADS, if set
        torch.set_num_threads(1)  # this process forks
        self.plan = load_plan(folder, trust)
        self.study = open_study(self.plan, folder)
        command = ["pipeline", "search", f"name={folder.name}"]
        self.environment = {"choices": {}, **describe_environment(command)}
        self.loaded: DataModule | None = None  # the data of the last trial; the next one mostly has the same

    def run(self) -> None:
        """Return when there is nothing left to do. Raises StopRequested."""
        total = total_trials(self.plan)
        while not directory.is_search_stopped(self.folder) and os.getppid() == self.parent and not self._should_end():
            trial = with_retry(lambda: self._ask(total))
            if trial is not None:
                self._train(trial)
            elif with_retry(self._is_any_running):  # it may fail, and leave work for this worker
                time.sleep(1.0)
            else:
                return

    def _ask(self, total: int) -> Trial | None:
        """Block signals while a trial is asked for; `_train`, which can put it back, unblocks them."""
        trial = None
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            trial = ask_for_trial(self.study, self.plan, total)
        finally:
            if trial is None:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        return trial

    def _should_end(self) -> bool:
        """Return whether the search has failed. On a busy machine, the supervisor may notice that much later."""
        trials = with_retry(lambda: self.study.get_trials(deepcopy=False))
        try:
            directory.check_trial_failures(self.plan, self.folder, trials)
        except (ConfigError, TrainingFailed):
            return True
        return False

    def _is_any_running(self) -> bool:
        return any(trial.state == TrialState.RUNNING for trial in self.study.get_trials(deepcopy=False))

    def _train(self, trial: Trial) -> None:
        processes: list[int] = []
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            with_retry(lambda: trial.set_user_attr(WORKER, directory.worker_identity(self.name)))
            self._record_heartbeat(trial)
            params = with_retry(lambda: self.plan.space.suggest(trial, self.plan.fixed_options))
            config = self.plan.trial_config(params)
            run = directory.create_trial_run(self.folder, trial.number, self.plan, params, config, self.environment)
            self.loaded = preload_data(config, self.loaded)
            processes = self._fork(run, config, trial, params)
            problem = self._wait(processes, trial)
        except StopRequested:
            for process in processes:
                _kill(process)
            with_retry(lambda: mark_stopped(self.study, self._frozen(trial)))
            raise
        except UserError as mistake:
            problem = str(mistake)
        with_retry(lambda: directory.finalize_trial(self.study, self.plan, self._frozen(trial), self.folder, problem))

    def _record_heartbeat(self, trial: Trial) -> None:
        record_heartbeat(self.study, self.folder, trial_id_of(trial), trial.number)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return study_storage(self.study).get_trial(trial_id_of(trial))

    def _fork(self, run: Run, config: DictConfig, trial: Trial, params: Params) -> list[int]:
        """Fork the processes of a trial; return their numbers."""
        devices = config.trainer.devices
        devices = list(devices) if not isinstance(devices, int | str) else devices
        count = process_count(devices, config.trainer.accelerator)
        port = free_port()
        processes = []
        for rank in range(count):
            process = os.fork()
            if process == 0:
                self._run_trial_process(Rank(rank, count, rank, count), port, run, config, trial, params)
            processes.append(process)
        return processes

    def _run_trial_process(
        self, here: Rank, port: int, run: Run, config: DictConfig, trial: Trial, params: Params
    ) -> NoReturn:
        """Train in a forked process, which ends here."""
        code = FAILED
        try:
            _set_up_trial_process(here, port, run, max(self.threads // here.world_size, 1))
            drop_inherited_connections(self.study)
            study = open_study(self.plan, self.folder) if here.is_first else None
            pruning = PruningCallback(study, trial_id_of(trial), self.plan, config.checkpoint)
            record = trial_record(self.plan, trial.number, params, config, self.folder.name)
            train_trial(run, config, here, pruning, record, self.loaded)
            code = DONE
        except UserError as mistake:
            print(f"error: {mistake}", file=sys.stderr)
            if isinstance(mistake, NoSuchMetric) and here.is_first:
                write_atomically(self.folder / directory.REFUSAL_FILE, str(mistake))
            if isinstance(mistake, ConfigError | DataError) and here.is_first:
                write_atomically(run.folder / directory.MISTAKE_FILE, str(mistake))
        except BaseException as problem:  # noqa: BLE001  whatever it is, the log of the trial has it
            code = FAILED if find_os_error(problem, DISK_FULL) is None else DISK_FULL_EXIT_CODE
            if here.is_first:
                sentence = f"{type(problem).__name__}: {problem}".partition("\n")[0]
                with suppress(OSError):  # the disk may be full
                    write_atomically(run.folder / directory.FAILURE_FILE, sentence)
            with suppress(OSError):
                traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _wait(self, processes: list[int], trial: Trial) -> str | None:
        """Wait until all processes have ended, with heartbeats; return what went wrong first, or None."""
        running, problem, failed_at, heartbeat_at = list(processes), None, 0.0, time.monotonic()
        while running:
            if time.monotonic() - heartbeat_at > HEARTBEAT_SECONDS:
                self._record_heartbeat(trial)
                heartbeat_at = time.monotonic()
            if os.getppid() != self.parent:
                raise StopRequested
            for process in list(running):
                ended, status = os.waitpid(process, os.WNOHANG)
                if not ended:
                    continue
                running.remove(process)
                code = os.waitstatus_to_exitcode(status)
                if code == DISK_FULL_EXIT_CODE:  # not the trial's fault; the study has no room for it either
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if code != 0 and problem is None:
                    problem = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                    failed_at = time.monotonic()
            if problem is not None and running and time.monotonic() - failed_at > GRACE_SECONDS:
                for process in running:
                    _kill(process)
                return problem
            time.sleep(POLL_SECONDS)
        return problem


def main(folder: Path, name: str, trust: TrustPolicy) -> int:
    for number in STOP_SIGNALS:
        signal.signal(number, _raise_stop)
    add_working_directory_to_path()
    try:
        Worker(folder, name, trust).run()
    except StopRequested:
        return DONE
    except UserError as problem:  # the study is lost: the supervisor notices it, too, and reports it
        print(f"error: {problem}", file=sys.stderr)
        return FAILED
    except OSError as problem:
        if find_os_error(problem, DISK_FULL) is None:
            raise
        return DISK_FULL_EXIT_CODE
    return DONE


def _set_up_trial_process(here: Rank, port: int, run: Run, threads: int) -> None:
    """Give a forked process signals, output, threads and environment of its own."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a scheduler signals all processes; the worker ends this one
    log = os.open(run.log_path if here.is_first else run.folder / f"rank{here.rank}.log", LOG_FLAGS, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    exit_with_parent(grace_seconds=1.0)
    if here.world_size > 1:
        os.environ.update(rank_environment(here, master_address="127.0.0.1", master_port=port))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    log_to_file(run.folder / "trial.log")


def _kill(process: int) -> None:
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _raise_stop(number: int, frame: FrameType | None) -> None:
    """Stop once: both a scheduler and the supervisor signal this process, which is then putting its trial back."""
    for stop_signal in STOP_SIGNALS:
        signal.signal(stop_signal, signal.SIG_IGN)
    raise StopRequested


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], TrustPolicy.from_arguments(sys.argv[3:])))
