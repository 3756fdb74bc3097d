"""Jobs of a real SLURM, with fast steps: slow ones hide what two processes can do to each other."""

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.slurm_cluster import cluster, slurm, why_not

from pipeline.commands.chaos import newest_step
from pipeline.tracking import journal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]
TWO_NODES = ("launch=slurm", "launch.nodes=2", "trainer.accelerator=cpu", "launch.time=10m")
ENDLESS = ("trainer.max_epochs=100000", "callbacks=none", "checkpoint.every_n_steps=null")
PATIENCE_SECONDS = 300.0
SLOW_ONCE = """
import pathlib
import time
import pytorch_lightning as pl

class SlowOnce(pl.Callback):
    def on_train_batch_start(self, trainer, *_):
        marker = pathlib.Path(f"slow{trainer.global_rank}")
        if not marker.exists():
            marker.touch()
            time.sleep(1000)
"""
OWN_SCRIPT = """#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --requeue --open-mode=append
#SBATCH --chdir={folder} --output={folder}/job.log
{command}
code=$?
if [ "$code" -eq 75 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
"""


@pytest.fixture(scope="module", autouse=True)
def up(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with cluster(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture
def submit(program: Any, tmp_path: Path) -> Any:
    """Submits a run; its directory and the number of its job, which is cancelled in the end."""
    numbers = []

    def submitted(*overrides: str) -> tuple[Path, str]:
        ended = program.run(tmp_path / "home", "train", *program.SMALL, *TWO_NODES, *overrides)
        assert ended.code == 0, ended.err
        run_dir = program.only_run(tmp_path / "home")
        number = json.loads((run_dir / "job.json").read_text())["job"]
        assert f"job         {number}" in ended.out
        numbers.append(number)
        return run_dir, number

    yield submitted
    for number in numbers:
        slurm("scancel", number)


def wait_for(what: Callable[[], bool], run_dir: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not what():
        log = run_dir / "job.log"
        assert time.monotonic() < deadline, log.read_text()[-3000:] if log.exists() else slurm("squeue")
        time.sleep(0.2)


def limit(number: str, *, seconds: int) -> None:
    """Let the job have this long from now, or up to a minute more: SLURM counts whole minutes from the beginning.

    Set when training is under way, because the limit is to end that, and not the imports, however slow they are.
    """
    *_, minutes, gone = slurm("squeue", "-h", "-j", number, "-o", "%M").split(":")
    more = -(-(int(gone) + seconds) // 60)
    slurm("scontrol", "update", f"jobid={number}", f"TimeLimit={int(minutes) + more}")


def points_recorded_twice(run_dir: Path) -> list[tuple[str, int]]:
    """Of the training's metrics: a resumed run repeats none that its checkpoint has behind it."""
    records = [record for record, _ in journal.read_journal(run_dir / "journal.jsonl") if record["kind"] == "metrics"]
    points = [(name, each["step"]) for each in records for name in each["values"] if not name.startswith("system/")]
    return [point for point, count in Counter(points).items() if count > 1]


def read(log: Path) -> str:
    return log.read_text() if log.exists() else ""


def state(number: str) -> str:
    return slurm("squeue", "-h", "-j", number, "-t", "all", "-o", "%T")


def go_on_now(number: str, run_dir: Path) -> None:
    """A requeued job waits for two minutes by itself."""
    wait_for(lambda: state(number) == "PENDING", run_dir)
    time.sleep(2)
    slurm("scontrol", "update", f"jobid={number}", "StartTime=now")


def test_two_nodes_train_one_run(program: Any, submit: Any) -> None:
    run_dir, number = submit("trainer.max_epochs=2")
    wait_for(lambda: state(number) == "COMPLETED", run_dir)
    assert program.result(run_dir)["status"] == "FINISHED"
    assert "2 x cpu" in (run_dir / "job.log").read_text()


def test_a_preempted_job_saves_goes_back_to_the_queue_and_goes_on_at_its_step(submit: Any) -> None:
    run_dir, number = submit(*ENDLESS)
    wait_for(lambda: newest_step(run_dir) > 20, run_dir)
    slurm("scancel", "--signal=USR1", number)
    go_on_now(number, run_dir)
    wait_for(lambda: "goes on at" in (run_dir / "job.log").read_text(), run_dir)
    log = (run_dir / "job.log").read_text()
    saved = log.partition("stopped; ")[2].partition(" ")[0]
    assert saved.startswith("step-") and f"({saved})" in log.partition("goes on at")[2].splitlines()[0]


def test_a_job_whose_time_is_up_goes_back_to_the_queue_as_often_as_it_may(program: Any, submit: Any) -> None:
    run_dir, number = submit(*ENDLESS, "launch.max_requeues=1")
    log = run_dir / "job.log"
    wait_for(lambda: newest_step(run_dir) > 20, run_dir)
    limit(number, seconds=35)
    wait_for(lambda: "back to the queue, to go on by itself (the 1. of 1 times)" in read(log), run_dir)
    slurm("scontrol", "update", f"jobid={number}", "TimeLimit=10")
    go_on_now(number, run_dir)
    reached = newest_step(run_dir)
    wait_for(lambda: newest_step(run_dir) > reached, run_dir)
    limit(number, seconds=35)
    wait_for(lambda: "launch.max_requeues=1 is used up" in read(log), run_dir)
    wait_for(lambda: state(number) == "FAILED", run_dir)
    first, second = (part.partition(" ")[0] for part in read(log).split("stopped; ")[1:])
    assert f"({first})" in read(log).partition("goes on at")[2].splitlines()[0]
    assert (run_dir / "checkpoints" / second).exists() and second > first
    assert read(log).endswith(f"To go on: pipeline resume run={run_dir.name}\n")
    assert program.result(run_dir)["status"] == "KILLED"
    assert points_recorded_twice(run_dir) == []


def test_a_job_that_its_limit_kills_before_it_could_save_starts_afresh_in_the_same_directory(
    program: Any, submit: Any, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/mine.py").write_text(SLOW_ONCE)
    slow = ("allow_packages=[mine]", "+callbacks.slow={_target_: mine.SlowOnce}", "callbacks=none")
    command = (*slow, "name=slow", "auto_resume=true")
    run_dir, number = submit(*command)
    wait_for((tmp_path / "home/slow1").exists, run_dir)
    limit(number, seconds=1)
    wait_for(lambda: state(number) == "TIMEOUT", run_dir)
    assert (run_dir / "journal.jsonl").exists() and not list((run_dir / "checkpoints").glob("*.ckpt"))
    again, number = submit(*command)
    assert again == run_dir
    wait_for(lambda: state(number) == "COMPLETED", run_dir)
    assert program.result(run_dir)["status"] == "FINISHED"
    assert points_recorded_twice(run_dir) == []


def test_a_script_of_the_users_own_goes_on_in_the_run_that_it_had_claimed(program: Any, tmp_path: Path) -> None:
    command = ["srun", "--kill-on-bad-exit=0", program.PATH, "train", *program.SMALL, "trainer.accelerator=cpu"]
    (tmp_path / "own.sh").write_text(OWN_SCRIPT.format(folder=tmp_path, command=" ".join(command)))
    number = slurm("sbatch", "--parsable", f"{tmp_path}/own.sh")
    claim = tmp_path / f"runs/.claims/slurm-{number}-0.json"
    wait_for(claim.exists, tmp_path)
    time.sleep(1)  # torch is being imported
    slurm("scancel", "--signal=USR1", number)
    go_on_now(number, tmp_path)
    wait_for(lambda: state(number) == "COMPLETED", tmp_path)
    run_dir = program.only_run(tmp_path)
    assert json.loads(claim.read_text()) == {"run": run_dir.name}
    assert program.result(run_dir)["status"] == "FINISHED"
    assert points_recorded_twice(run_dir) == []


def test_a_partition_of_higher_priority_takes_the_nodes_and_gives_them_back(submit: Any, tmp_path: Path) -> None:
    run_dir, number = submit(*ENDLESS)
    wait_for(lambda: newest_step(run_dir) > 20, run_dir)
    subprocess.run(
        ["sbatch", "-p", "high", "-N2", "-n4", f"--output={tmp_path}/high.log", "--wrap", "sleep 3"],
        check=True, timeout=30, capture_output=True,
    )  # fmt: skip
    go_on_now(number, run_dir)
    wait_for(lambda: "goes on at" in (run_dir / "job.log").read_text(), run_dir)
    assert (tmp_path / "high.log").exists(), "the job that took the nodes has run"
    assert "stopped; step-" in (run_dir / "job.log").read_text()


def test_a_cancelled_job_saves_and_does_not_come_back(program: Any, submit: Any) -> None:
    run_dir, number = submit(*ENDLESS)
    wait_for(lambda: newest_step(run_dir) > 20, run_dir)
    ended = program.run(run_dir.parent.parent, "cancel", run_dir.name)
    assert ended.code == 0, ended.err
    wait_for(lambda: state(number) == "CANCELLED", run_dir)
    wait_for(lambda: not journal.is_open(run_dir / "journal.jsonl"), run_dir)
    assert program.result(run_dir)["status"] == "KILLED"
    assert "stopped; step-" in (run_dir / "job.log").read_text()


def test_a_job_in_the_queue_is_listed_not_submitted_twice_and_cancelled(program: Any, submit: Any) -> None:
    run_dir, number = submit("+launch.options.begin=now+1hour")
    home, name = run_dir.parent.parent, run_dir.name
    assert f"{name}  PENDING " in program.run(home, "runs").out
    again = program.run(home, "resume", f"run={name}")
    assert again.code == 2 and "already launched (PENDING)" in again.err
    assert re.search(rf"^job +{number}$", program.run(home, "runs", "show", name).out, re.MULTILINE)
    assert f"job {number} is cancelled" in program.run(home, "cancel", name).out
    wait_for(lambda: state(number) == "CANCELLED", run_dir)
    assert f"{name}  NOT STARTED " in program.run(home, "runs").out
    nothing = program.run(home, "cancel", name)
    assert nothing.code == 2 and "is not running (NOT STARTED)" in nothing.err


def test_a_job_that_went_back_to_the_queue_is_listed_and_cancelled(program: Any, submit: Any) -> None:
    run_dir, number = submit(*ENDLESS)
    home, name = run_dir.parent.parent, run_dir.name
    wait_for(lambda: newest_step(run_dir) > 20, run_dir)
    assert f"{name}  RUNNING " in program.run(home, "runs").out
    slurm("scancel", "--signal=USR1", number)
    wait_for(lambda: state(number) == "PENDING", run_dir)
    assert f"{name}  PENDING " in program.run(home, "runs").out
    assert program.run(home, "cancel", name).code == 0
    wait_for(lambda: state(number) == "CANCELLED", run_dir)
    assert f"{name}  KILLED " in program.run(home, "runs").out


def test_a_run_is_listed_where_the_clusters_commands_are_not(program: Any, submit: Any, tmp_path: Path) -> None:
    run_dir, _ = submit("+launch.options.begin=now+1hour")
    home, without = run_dir.parent.parent, {"PATH": str(tmp_path)}
    assert f"{run_dir.name}  UNKNOWN " in program.run(home, "runs", **without).out
    refused = program.run(home, "cancel", run_dir.name, **without)
    assert refused.code == 2 and "type this on a login node" in refused.err


def test_a_dry_run_only_writes_the_script(program: Any, tmp_path: Path) -> None:
    ended = program.run(tmp_path / "home", "train", *program.SMALL, *TWO_NODES, "launch.dry_run=true")
    assert ended.code == 0, ended.err
    run_dir = program.only_run(tmp_path / "home")
    assert "#SBATCH --nodes=2\n" in (run_dir / "job.sh").read_text()
    assert f"sbatch {run_dir}/job.sh" in ended.out
    assert slurm("squeue", "-h", "-n", run_dir.name) == ""
