"""One of a search's processes: `python -m pipeline.search.worker FOLDER NAME`, started by the driver.

It imports everything once and forks a process for each trial, which therefore starts at once and takes all it did
(memory, threads, seeds, open files) with it when it ends. In here nothing is computed, so that what is forked has no
threads and no accelerator in use, with which it could not go on.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from optuna.study import Study
from optuna.trial import Trial, TrialState

from pipeline.errors import FAILED, ConfigError, UserError
from pipeline.launch.devices import process_count
from pipeline.launch.local import free_port
from pipeline.lifecycle import environment
from pipeline.lifecycle.run import Run
from pipeline.lifecycle.train import quieten
from pipeline.process import Place, environment_of, follow_parent, see_working_directory
from pipeline.search import folder as folders
from pipeline.search import plan as plans
from pipeline.search import storage
from pipeline.search import study as studies
from pipeline.search import trial as trials
from pipeline.search.plan import Plan
from pipeline.search.space import Picked
from pipeline.search.storage import patiently

POLL_SECONDS = 0.01
GRACE_SECONDS = 10.0  # for the other processes of a trial, once one of them has failed


class Stopped(Exception):
    """The driver, a scheduler or Ctrl-C wants this process to end."""


def main(folder: Path, name: str) -> int:
    parent = os.getppid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, _stop)
    see_working_directory()
    torch.set_num_threads(1)
    plan = plans.load(folder)
    study = studies.open_study(plan, folder)
    wanted = studies.total(plan)
    facts = {"choices": {}, **environment.describe(["pipeline", "search", f"name={folder.name}"])}
    try:
        while not folders.is_over(folder) and os.getppid() == parent:
            trial = patiently(lambda: studies.ask(study, plan, wanted))
            if trial is None:
                if not patiently(lambda: _others_may_fail(study)):
                    return 0
                time.sleep(1.0)
                continue
            _train(trial, study, plan, folder, name, facts, parent)
    except Stopped:
        return 0
    return 0


def _others_may_fail(study: Study) -> bool:
    """What is under way elsewhere may leave work for this one."""
    return any(trial.state == TrialState.RUNNING for trial in study.get_trials(deepcopy=False))


def _train(trial: Trial, study: Study, plan: Plan, folder: Path, name: str, facts: dict[str, Any], parent: int) -> None:
    def live() -> None:
        storage.beat(study, folder, trial._trial_id, trial.number)

    processes: list[int] = []
    try:
        patiently(lambda: trial.set_user_attr(studies.WORKER, folders.identity(name)))
        live()
        picked = patiently(lambda: plan.space.pick(trial, plan.settled))
        run = folders.trial_run(folder, trial.number, plan, picked, facts)
        processes = _fork(run, trial, study, plan, folder, picked)
        problem = _wait(processes, parent, live)
    except Stopped:
        for process in processes:
            _end(process)
        studies.stop(study, study._storage.get_trial(trial._trial_id))
        raise
    except UserError as mistake:
        problem = str(mistake)
    patiently(lambda: folders.settle(study, plan, study._storage.get_trial(trial._trial_id), folder, problem))


def _fork(run: Run, trial: Trial, study: Study, plan: Plan, folder: Path, picked: Picked) -> list[int]:
    config = run.config()
    devices = config.trainer.devices
    count = process_count(list(devices) if not isinstance(devices, int | str) else devices, config.trainer.accelerator)
    port = free_port()
    threads = max(int(os.environ.get("OMP_NUM_THREADS", "1")) // count, 1)
    found = []
    for rank in range(count):
        process = os.fork()
        if process == 0:
            storage.forget_connections(study)
            _become(Place(rank, count, rank, count), port, threads, run, trial, plan, folder, picked)
        found.append(process)
    return found


def _become(
    place: Place, port: int, threads: int, run: Run, trial: Trial, plan: Plan, folder: Path, picked: Picked
) -> NoReturn:
    """This process is one of a trial's, and ends here."""
    code = FAILED
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a scheduler tells all processes; the worker ends this one
        _write_to(run.log_path if place.is_first else run.folder / f"rank{place.rank}.log")
        follow_parent(grace_seconds=1.0)
        if place.world_size > 1:
            os.environ.update(environment_of(place, master_address="127.0.0.1", master_port=port))
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
        quieten(run.folder / "trial.log")
        study = studies.open_study(plan, folder) if place.is_first else None
        tags = trials.start_record(plan, trial.number, picked, run, folder.name)
        trials.train(run, place, study, trial._trial_id, plan, tags)
        code = 0
    except UserError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        if isinstance(mistake, ConfigError) and place.is_first:
            folders.note_mistake(run, str(mistake))
    except BaseException:  # noqa: BLE001  whatever it is, it is told where the trial's output goes
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _wait(processes: list[int], parent: int, live: Callable[[], None]) -> str | None:
    """Until all are done, with a sign of life now and then; what went wrong first, or None."""
    left, problem, failed_at, lived_at = list(processes), None, 0.0, time.monotonic()
    while left:
        if time.monotonic() - lived_at > storage.BEAT_SECONDS:
            live()
            lived_at = time.monotonic()
        if os.getppid() != parent:
            raise Stopped
        for process in list(left):
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                left.remove(process)
                code = os.waitstatus_to_exitcode(status)
                if code != 0 and problem is None:
                    problem, failed_at = _in_words(code), time.monotonic()
        if problem is not None and left and time.monotonic() - failed_at > GRACE_SECONDS:
            for process in left:
                _end(process)
            return problem
        time.sleep(POLL_SECONDS)
    return problem


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
    raise Stopped


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
