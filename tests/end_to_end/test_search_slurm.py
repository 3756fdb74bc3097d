"""A search as an array of jobs of a real SLURM: they are preempted, killed and cancelled while it goes on."""

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import TrialState
from tests.end_to_end.searches import PATIENCE_SECONDS, RATE, SMALL, done, left_behind, trials_in, wait_for
from tests.end_to_end.slurm_cluster import cluster, slurm, why_not

from pipeline.search import study as studies

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]
ARRAY = ("launch=slurm", "launch.time=10m", "search.workers=2")
AS_LONG = "trainer.max_epochs=25"  # some seconds


@pytest.fixture(scope="module", autouse=True)
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with cluster(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture
def submit(program: Any, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Submits a search; the number of its array, which is cancelled in the end."""
    numbers: list[str] = []

    def submitted(*words: str) -> str:
        ended = program.run(tmp_path / "home", *SMALL, *ARRAY, RATE, *words)
        assert ended.code == 0, ended.out + ended.err
        (number,) = re.findall(r"^job +(\d+)$", ended.out, re.MULTILINE)
        numbers.append(number)
        return str(number)

    yield submitted
    for number in numbers:
        slurm("scancel", number)


def states(number: str) -> dict[str, str]:
    """{job: state}, while SLURM remembers them."""
    answer = slurm("squeue", "-h", "-r", "-j", number, "-t", "all", "-o", "%i %T")
    return dict(line.split() for line in answer.splitlines())


def until(what: Callable[[], bool], home: Path) -> None:
    deadline = time.monotonic() + 2 * PATIENCE_SECONDS
    while not what():
        logs = sorted((home / "runs/searches/s").glob("job-*.log"))
        assert time.monotonic() < deadline, "\n".join(log.read_text()[-2000:] for log in logs) or slurm("squeue")
        time.sleep(0.2)


def is_over(number: str) -> bool:
    return all(state == "COMPLETED" for state in states(number).values())


def logs(home: Path) -> str:
    return "".join(path.read_text() for path in sorted((home / "runs/searches/s").glob("job-*.log")))


def test_jobs_search_together_and_the_last_one_concludes(submit: Any, program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    number = submit("search.n_trials=6", "search.final_seeds=1")
    assert len(states(number)) == 2
    again = program.run(home, "search", "name=s")
    assert again.code == 2 and "is under way already" in again.err
    until(lambda: is_over(number), home)
    trials = trials_in(home)
    assert len(done(trials)) == 6 == len(trials)
    assert {trial.user_attrs[studies.WORKER]["name"] for trial in trials} == {"0", "1"}
    assert logs(home).count("best        trial") == 1 and logs(home).count("test set ") == 1, logs(home)
    assert (home / "runs/searches/s/best.yaml").exists() and (home / "runs/searches/s/final.json").exists()
    assert left_behind(home) == []


def test_a_preempted_job_comes_back_and_no_trial_is_lost_or_doubled(submit: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    number = submit(AS_LONG, "search.n_trials=5")
    victim = wait_for(home, ended=0, running=2)[0]
    job = f"{number}_{victim.user_attrs[studies.WORKER]['name']}"
    slurm("scancel", "--signal=USR1", job)
    until(lambda: states(number).get(job) == "PENDING", home)
    time.sleep(2)
    slurm("scontrol", "update", f"jobid={job}", "StartTime=now")
    until(lambda: is_over(number), home)
    trials = trials_in(home)
    assert len(done(trials)) == 5 and studies.failed_trials(trials) == []
    assert trials[victim.number].user_attrs.get(studies.STOPPED)
    (instead,) = [each for each in trials if each.user_attrs.get(studies.INSTEAD_OF) == victim.number]
    assert instead.params == victim.params and instead.state in studies.DONE_STATES
    assert len({str(trial.params) for trial in done(trials)}) == 5
    assert "back to the queue" in logs(home)


def test_a_killed_job_is_gone_and_the_others_train_what_it_had(submit: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    number = submit(AS_LONG, "search.n_trials=4")
    victim = wait_for(home, ended=0, running=2)[0]
    worker = psutil.Process(victim.user_attrs[studies.WORKER]["pid"])
    job = f"{number}_{victim.user_attrs[studies.WORKER]['name']}"
    for process in (worker.parent(), worker):
        process.send_signal(signal.SIGKILL)
    until(lambda: states(number).get(job) == "FAILED", home)
    until(lambda: all(state in ("COMPLETED", "FAILED") for state in states(number).values()), home)
    trials = trials_in(home)
    assert len(done(trials)) == 4 and not [each for each in trials if each.state == TrialState.RUNNING]
    assert logs(home).count("best        trial") == 1


def test_a_cancelled_search_goes_on_when_it_is_submitted_again(submit: Any, program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    number = submit(AS_LONG, "search.n_trials=4")
    wait_for(home, ended=1, running=1)
    slurm("scancel", number)
    until(lambda: set(states(number).values()) <= {"CANCELLED"}, home)
    ended = program.run(home, "search", "name=s", "launch=local", "search.workers=1")
    assert ended.code == 0, ended.out + ended.err
    trials = trials_in(home)
    assert len(done(trials)) == 4 and studies.failed_trials(trials) == []
