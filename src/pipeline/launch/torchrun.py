"""torchrun's elastic agents: whatever kills a process, all start again and go on from the newest checkpoint."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from pipeline.errors import DONE, ConfigError
from pipeline.launch import job
from pipeline.launch.devices import core_count, process_count
from pipeline.launch.launcher import Resources

# Else processes that are started again may read where those before them could be reached, and wait there for ever.
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
FORWARDED = (signal.SIGINT, signal.SIGTERM)


class Torchrun:
    """On one node the command is run here; for several it is printed, to be typed on each of them.

    `rendezvous` is host:port of one node, where the agents meet; `max_restarts` is how often the processes are
    started again. The run directory must lie where all nodes see it.
    """

    def __init__(
        self,
        *,
        nodes: int,
        processes_per_node: int | None,
        rendezvous: str | None,
        max_restarts: int,
        dry_run: bool,
    ) -> None:
        if nodes > 1 and rendezvous is None:
            raise ConfigError(
                f"launch.nodes={nodes} needs a place to meet: launch.rendezvous=HOST:PORT, the name of one of the "
                "nodes and a free port there, such as launch.rendezvous=node1:29400"
            )
        self.nodes = nodes
        self.processes_per_node = processes_per_node
        self.rendezvous = rendezvous
        self.max_restarts = max_restarts
        self.dry_run = dry_run

    def resources(self, *, devices: int | str | list[int], accelerator: str, num_nodes: int) -> Resources:
        return Resources(self.nodes, self.processes_per_node or process_count(devices, accelerator))

    def run(self, command: list[str], resources: Resources, folder: Path) -> int:
        agent = self.command(command, resources, folder)
        if resources.nodes == 1 and not self.dry_run:
            return _run(agent, threads=max(core_count() // resources.processes_per_node, 1))
        job.note(folder, launcher="torchrun", command=agent)
        variables = " ".join(f"{name}={value}" for name, value in OWN_STORE.items())
        where = "on each of the nodes, in this directory" if resources.nodes > 1 else "here"
        print(f"run         {folder}\ntype this {where} ({os.getcwd()}):\n\n  {variables} {shlex.join(agent)}\n")
        return DONE

    def state(self, folder: Path) -> str | None:
        return None  # its agents belong to nobody; whether the run is alive, its journal tells

    def cancel(self, folder: Path) -> str:
        return "end torchrun on one of its nodes with Ctrl-C; all save and end"

    def command(self, command: list[str], resources: Resources, folder: Path) -> list[str]:
        """The same on every node."""
        return [
            sys.executable,
            "-m",
            "torch.distributed.run",
            f"--nnodes={resources.nodes}",
            f"--nproc-per-node={resources.processes_per_node}",
            f"--max-restarts={self.max_restarts}",
            "--monitor-interval=0.5",
            f"--rdzv-id={folder.name}",
            "--rdzv-backend=c10d",
            f"--rdzv-endpoint={self.rendezvous or '127.0.0.1:0'}",
            *(["--local-addr=127.0.0.1"] if self.rendezvous is None else []),
            "--no-python",
            *command,
        ]


def _run(command: list[str], *, threads: int) -> int:
    environment = os.environ | OWN_STORE | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    # Its own group, so that Ctrl-C reaches the agent once, from here.
    with subprocess.Popen(command, env=environment, process_group=0) as agent:

        def forward(number: int, frame: FrameType | None) -> None:
            agent.send_signal(number)

        for number in FORWARDED:
            signal.signal(number, forward)
        code = agent.wait()
    return code if code >= 0 else 128 - code
