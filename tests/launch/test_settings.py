"""Every setting of every launcher: what cannot work is refused before anything is written."""

from pathlib import Path

import pytest

from pipeline.cli import main

SLURM, TORCHRUN = "launch=slurm launch.dry_run=true ", "launch=torchrun launch.dry_run=true "
KUBERNETES = "launch=kubernetes launch.dry_run=true launch.image=a/b "
REFUSED = {  # what is typed, and what to type instead
    "launch.hang_seconds=-1": "expected a number above 0 or null, such as the default 10.0",
    "launch.hang_seconds=0": "expected a number above 0 or null",
    "launch.hang_seconds=nan": "expected a number above 0",
    "launch.hang_seconds=inf": "expected a number above 0",
    "launch.hang_seconds=ten": "expected a number",
    "launch.hang_seconds='10'": "expected a number",
    "launch.hang_seconds=true": "expected a number",
    "launch.hang_seconds=[1]": "expected a number",
    TORCHRUN + "launch.nodes=2 launch.rendezvous=node1": "launch.rendezvous=node1:29400",
    TORCHRUN + "launch.nodes=2": "launch.rendezvous=node1:29400",
    TORCHRUN + "launch.nodes=2 launch.rendezvous='node1:0'": "launch.rendezvous=node1:29400",
    TORCHRUN + "launch.nodes=2 launch.rendezvous='node1:99999'": "1 to 65535",
    TORCHRUN + "launch.nodes=2 launch.rendezvous='node1:port'": "launch.rendezvous=node1:29400",
    TORCHRUN + "launch.nodes=2 launch.rendezvous=':29400'": "HOST:PORT",
    TORCHRUN + "launch.nodes=2 launch.rendezvous=29400": "launch.rendezvous",
    TORCHRUN + "launch.nodes=0": "expected a whole number from 1",
    TORCHRUN + "launch.nodes=1.5": "launch.nodes",
    TORCHRUN + "launch.processes_per_node=0": "expected a whole number from 1",
    TORCHRUN + "launch.processes_per_node=-2": "expected a whole number from 1",
    TORCHRUN + "launch.max_restarts=-1": "expected a whole number from 0",
    TORCHRUN + "launch.dry_run=perhaps": "launch.dry_run",
    SLURM + "launch.nodes=0": "expected a whole number from 1",
    SLURM + "launch.nodes=-1": "expected a whole number from 1",
    SLURM + "launch.nodes=two": "launch.nodes",
    SLURM + "launch.gpus_per_node=-1": "expected a whole number from 0",
    SLURM + "launch.processes_per_node=0": "expected a whole number from 1",
    SLURM + "launch.cpus_per_process=0": "expected a whole number from 1",
    SLURM + "launch.max_requeues=-1": "expected a whole number from 0",
    SLURM + "launch.notice_seconds=0": "expected a whole number from 1",
    SLURM + "launch.notice_seconds=3600": "launch.notice_seconds=1800",
    SLURM + "launch.time=0m": "launch.time=4h",
    SLURM + "launch.time=-1h": "launch.time=4h",
    SLURM + "launch.time=60": "launch.time",
    SLURM + "launch.time=null": "launch.time",
    SLURM + "launch.time=4hours": "launch.time=4h",
    SLURM + "launch.time='1:30:00'": "launch.time=1h30m",
    SLURM + "launch.time=999999999d": "launch.time=4h",
    SLURM + "launch.memory_per_node=64": "launch.memory_per_node",
    SLURM + "launch.memory_per_node=64KB": "launch.memory_per_node=64GB",
    SLURM + "launch.memory_per_node=-1GB": "launch.memory_per_node=64GB",
    SLURM + "launch.memory_per_node=0GB": "launch.memory_per_node=64GB",
    SLURM + "+launch.options.QOS=high": "+launch.options.qos=high",
    SLURM + "launch.partition=[gpu]": "launch.partition",
    SLURM + "launch.setup=module": "launch.setup",
    SLURM + "trainer.devices=3 data.batch_size=129": "launch.processes_per_node=3",
    KUBERNETES + "launch.nodes=0": "expected a whole number from 1",
    KUBERNETES + "launch.gpus_per_node=-1": "expected a whole number from 0",
    KUBERNETES + "launch.processes_per_node=0": "expected a whole number from 1",
    KUBERNETES + "launch.cpus_per_node=0": "expected a whole number from 1",
    KUBERNETES + "launch.max_restarts=-1": "expected a whole number from 0",
    KUBERNETES + "launch.notice_seconds=-5": "expected a whole number from 1",
    KUBERNETES + "launch.time=4": "launch.time",
    KUBERNETES + "launch.memory_per_node=lots": "launch.memory_per_node=64GB",
    KUBERNETES + "launch.volumes={/nowhere:claim}": "launch.volumes",
    KUBERNETES + "launch.namespace=null": "launch.namespace",
}


@pytest.mark.parametrize("typed", REFUSED)
def test_settings_that_cannot_work_are_refused_and_leave_nothing(
    typed: str, empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *typed.split()]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and "Traceback" not in said.err
    assert REFUSED[typed] in said.err and "launch." in said.err
    assert list(empty_folder.rglob("*")) in ([], [empty_folder / "runs"])  # a manifest is checked with its run's name
