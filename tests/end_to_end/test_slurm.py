"""Jobs of a real SLURM, with fast steps: slow ones hide what two processes can do to each other."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.slurm_cluster import cluster, slurm, why_not

from pipeline.tracking import journal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]
TWO_NODES = ("launch=slurm", "launch.nodes=2", "trainer.accelerator=cpu", "launch.time=10m")
ENDLESS = ("trainer.max_epochs=100000", "callbacks=none", "checkpoint.every_n_steps=null")
PATIENCE_SECONDS = 120.0


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


def newest_step(run_dir: Path) -> int:
    path = run_dir / "journal.jsonl"
    steps = [record.get("step") or 0 for record, _ in journal.read(path)] if path.exists() else []
    return max(steps, default=0)


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


def test_a_partition_of_higher_priority_takes_the_nodes_and_gives_them_back(submit: Any, tmp_path: Path) -> None:
    run_dir, number = submit(*ENDLESS)
    wait_for(lambda: newest_step(run_dir) > 20, run_dir)
    subprocess.run(
        ["sbatch", "-p", "high", "-N2", "-n4", f"--output={tmp_path}/high.log", "--wrap", "sleep 3"],
        check=True, timeout=30, capture_output=True,
    )  # fmt: skip
    go_on_now(number, run_dir)
    wait_for(lambda: "goes on at" in (run_dir / "job.log").read_text(), run_dir)


def test_a_cancelled_job_saves_and_does_not_come_back(program: Any, submit: Any) -> None:
    run_dir, number = submit(*ENDLESS)
    wait_for(lambda: newest_step(run_dir) > 20, run_dir)
    ended = program.run(run_dir.parent.parent, "cancel", run_dir.name)
    assert ended.code == 0, ended.err
    wait_for(lambda: state(number) == "CANCELLED", run_dir)
    wait_for(lambda: not journal.is_open(run_dir / "journal.jsonl"), run_dir)
    assert program.result(run_dir)["status"] == "KILLED"
    assert "stopped; step-" in (run_dir / "job.log").read_text()


def test_a_dry_run_only_writes_the_script(program: Any, tmp_path: Path) -> None:
    ended = program.run(tmp_path / "home", "train", *program.SMALL, *TWO_NODES, "launch.dry_run=true")
    assert ended.code == 0, ended.err
    run_dir = program.only_run(tmp_path / "home")
    assert "#SBATCH --nodes=2\n" in (run_dir / "job.sh").read_text()
    assert f"sbatch {run_dir}/job.sh" in ended.out
    assert slurm("squeue", "-h", "-n", run_dir.name) == ""
