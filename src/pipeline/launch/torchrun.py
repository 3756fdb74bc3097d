"""torchrun's elastic agents: whatever kills a process, all start again and go on from the newest checkpoint."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from pipeline.constraints import NonNegativeInt, PositiveInt
from pipeline.errors import DONE, INTERRUPTED, PREEMPTED, ConfigError
from pipeline.launch import job_record, launcher_process
from pipeline.launch.devices import core_count, process_count
from pipeline.launch.launcher import Resources, check_agrees
from pipeline.system.process import INHERITED_FILES

# Else processes that are started again may read where those before them could be reached, and wait there for ever.
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
NAME = "torchrun"
LOOPBACK = "127.0.0.1"
JOIN_MINUTES = 10  # torchrun's own
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Torchrun:
    """On one node the command is run here; for several it is printed, to be typed on each of them.

    `rendezvous` is host:port of one node, where the agents meet; `max_restarts` is how often the processes are
    started again. The run directory must lie where all nodes see it.
    """

    def __init__(
        self,
        *,
        nodes: PositiveInt,
        processes_per_node: PositiveInt | None,
        rendezvous: str | None,
        max_restarts: NonNegativeInt,
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
        return check_agrees(
            Resources(self.nodes, self.processes_per_node or process_count(devices, accelerator)),
            devices=devices,
            num_nodes=num_nodes,
            settings="launch.processes_per_node={0}",
        )

    def run(self, command: list[str], resources: Resources, folder: Path) -> int:
        agent = self.command(command, resources, folder)
        if resources.nodes == 1 and not self.dry_run:
            launcher_process.note(folder, NAME)
            return _run(agent, threads=max(core_count() // resources.processes_per_node, 1))
        job_record.note(folder, launcher=NAME, command=agent)
        variables = " ".join(f"{name}={value}" for name, value in OWN_STORE.items())
        where = "on each of the nodes, in this directory" if resources.nodes > 1 else "here"
        print(f"run         {folder}\ntype this {where} ({os.getcwd()}):\n\n  {variables} {shlex.join(agent)}\n")
        if resources.nodes > 1:
            print(
                f"When a node is lost, type it again there: the others wait for {JOIN_MINUTES} minutes. After the loss "
                f"of the\none where they meet ({self.rendezvous}), and whenever they have given up, type it on all "
                "of them.\nIt goes on at the newest checkpoint."
            )
        return DONE

    def state(self, folder: Path) -> str | None:
        """Of agents that the user started nothing is known; whether the run is alive, its journal tells."""
        return "RUNNING" if launcher_process.of(folder, NAME) is not None else None

    def cancel(self, folder: Path) -> str:
        if "command" in (job_record.read(folder) or {}):
            return "end torchrun with Ctrl-C on one of its nodes; all save and end"
        return launcher_process.cancel(folder, NAME)

    def command(self, command: list[str], resources: Resources, folder: Path) -> list[str]:
        """The same on every node."""
        meeting = self.rendezvous or f"{LOOPBACK}:0"
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
            f"--rdzv-endpoint={meeting}",
            # A machine's own name need not lead to it.
            *([f"--local-addr={LOOPBACK}"] if meeting.startswith((LOOPBACK, "localhost")) else []),
            "--no-python",
            *command,
        ]


def _run(command: list[str], *, threads: int) -> int:
    environment = os.environ | OWN_STORE | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    heard: list[int] = []
    # Its own group, so that Ctrl-C reaches the agent once, from here.
    with subprocess.Popen(command, env=environment, process_group=0, pass_fds=tuple(INHERITED_FILES)) as agent:

        def forward(number: int, frame: FrameType | None) -> None:
            heard.append(number)
            # The agent tells its processes to end on these two alone.
            agent.send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)

        for number in FORWARDED:
            signal.signal(number, forward)
        code = agent.wait()
    if heard and code != DONE:  # the agent counts it as a failure of its own that it was told to end
        return INTERRUPTED if heard[0] == signal.SIGINT else PREEMPTED
    return code if code >= 0 else 128 - code
