"""What a TrainJob tells each pod to run, run here once for each, with the variables that Kubeflow's torch policy sets.

No cluster: the manifest's own command on this machine, two "pods" that meet on the loopback.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from pipeline.commands import chaos
from pipeline.runs.run_directory import Run

pytestmark = pytest.mark.slow
TWO_PODS = ("launch=kubernetes", "launch.image=none", "launch.nodes=2", "launch.cpus_per_node=1")
LONG = ("trainer.accelerator=cpu", "trainer.max_epochs=40", "callbacks=none")
PATIENCE_SECONDS = 240.0


class Pods:
    """The processes of a manifest, as two nodes would start them."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.trainer = yaml.safe_load((run_dir / "job.yaml").read_text())["spec"]["trainer"]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.agents: dict[int, subprocess.Popen[bytes]] = {}
        self.seen: list[psutil.Process] = []
        for number in range(self.trainer["numNodes"]):
            self.start(number)

    def start(self, number: int) -> None:
        injected = {
            "PET_NNODES": str(self.trainer["numNodes"]),
            "PET_NPROC_PER_NODE": str(self.trainer["numProcPerNode"]),
            "PET_NODE_RANK": str(number),
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": str(self.port),
        }
        own = {entry["name"]: entry["value"] for entry in self.trainer["env"]}
        # A pod can be reached by its name, which need not hold for this machine's.
        here = {"PET_LOCAL_ADDR": "127.0.0.1"}
        with (self.run_dir / f"pod{number}.log").open("ab") as log:
            self.agents[number] = subprocess.Popen(
                self.trainer["command"], env=os.environ | own | injected | here, stdout=log, stderr=log, cwd="/"
            )

    def said(self, number: int) -> str:
        return (self.run_dir / f"pod{number}.log").read_text()

    def worker(self, number: int) -> psutil.Process:
        (found,) = chaos.processes_of(self.agents[number].pid, "pipeline.lifecycle.training_process")
        self.seen.append(found)
        return found

    def reach(self, step: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while chaos.newest_step(self.run_dir) < step:
            assert time.monotonic() < deadline, self.said(0) + self.said(1)
            assert all(agent.poll() is None for agent in self.agents.values()), self.said(0) + self.said(1)
            time.sleep(0.05)

    def end(self) -> list[int]:
        return [agent.wait(PATIENCE_SECONDS) for agent in self.agents.values()]

    def kill(self) -> None:
        for agent in self.agents.values():
            if agent.poll() is None:
                self.seen += psutil.Process(agent.pid).children(recursive=True)
                agent.kill()
            agent.wait()
        for each in self.seen:
            if each.is_running():
                each.kill()


def pods_of(program: Any, folder: Path) -> Pods:
    claim = (f"launch.volumes={{{folder}: claim}}", f"launch.python={sys.executable}", "launch.dry_run=true")
    ended = program.run(folder, "train", *program.SMALL, *LONG, *TWO_PODS, *claim)
    assert ended.code == 0, ended.err
    run_dir: Path = program.only_run(folder)
    assert f"kubectl apply -f {run_dir}/job.yaml" in ended.out
    return Pods(run_dir)


@pytest.fixture(scope="module")
def peace(program: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    pods = pods_of(program, tmp_path_factory.mktemp("peace"))
    yield pods
    pods.kill()


@pytest.fixture
def pods(program: Any, tmp_path: Path) -> Iterator[Pods]:
    started = pods_of(program, tmp_path / "home")
    yield started
    started.kill()


def differences(one: Pods, other: Pods) -> list[str]:
    return chaos.run_differences(Run(one.run_dir), Run(other.run_dir))


def test_the_command_of_two_pods_trains_one_run(program: Any, peace: Pods) -> None:
    assert peace.end() == [0, 0], peace.said(0) + peace.said(1)
    assert program.result(peace.run_dir)["status"] == "FINISHED"
    assert "2 x cpu" in peace.said(0) and "test/accuracy" in peace.said(0)
    assert "test/accuracy" not in peace.said(1)


def test_a_killed_process_starts_again_by_itself_and_ends_with_the_same_weights(peace: Pods, pods: Pods) -> None:
    assert peace.end() == [0, 0]
    pods.reach(20)
    pods.worker(1).send_signal(signal.SIGKILL)
    assert pods.end() == [0, 0], pods.said(0) + pods.said(1)
    assert "goes on at  step" in pods.said(0)
    assert differences(peace, pods) == []


def test_a_pod_that_is_taken_away_saves_and_the_one_in_its_place_goes_on(peace: Pods, pods: Pods) -> None:
    assert peace.end() == [0, 0]
    pods.reach(20)
    pods.agents[1].send_signal(signal.SIGTERM)
    assert pods.agents[1].wait(60) != 0  # so that Kubernetes takes it for unfinished
    assert "stopped; step-" in pods.said(0)
    pods.start(1)
    assert pods.end() == [0, 0], pods.said(0) + pods.said(1)
    assert "goes on at  step" in pods.said(0)
    assert differences(peace, pods) == []
