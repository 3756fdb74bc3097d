"""The launcher torchrun: when a process is killed, its agents restart all from the newest checkpoint."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from pipeline.constraints import NonNegativeInt, PositiveInt
from pipeline.errors import DONE, INTERRUPTED, PREEMPTED, ConfigError
from pipeline.launch import job_record
from pipeline.launch.devices import core_count, process_count
from pipeline.launch.launcher import FORWARDED_SIGNALS, Resources, check_resources_agree
from pipeline.system.process import INHERITED_FILES

# Else restarted processes may read the address of those before them, and wait there forever.
STORE_VARIABLES = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
NAME = "torchrun"
LOOPBACK = "127.0.0.1"
JOIN_MINUTES = 10  # torchrun's own


class Torchrun:
    """Runs the command here on one node; prints it for several, to be typed on each of them.

    `rendezvous` is host:port of one node, where the agents meet; `max_restarts` is how often the processes are
    restarted. All nodes must see the run directory.
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
        return check_resources_agree(
            Resources(self.nodes, self.processes_per_node or process_count(devices, accelerator)),
            devices=devices,
            num_nodes=num_nodes,
            settings="launch.processes_per_node={0}",
        )

    def run(self, command: list[str], resources: Resources, folder: Path) -> int:
        agent = self.command(command, resources, folder)
        if resources.nodes == 1 and not self.dry_run:
            job_record.record_this_process(folder, NAME)
            return _run(agent, threads=max(core_count() // resources.processes_per_node, 1))
        job_record.write_job_record(folder, launcher=NAME, command=agent)
        variables = " ".join(f"{name}={value}" for name, value in STORE_VARIABLES.items())
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
        """Return RUNNING for a launch from here; None for agents that the user started, known to the journal alone."""
        return "RUNNING" if job_record.launcher_process_of(folder, NAME) is not None else None

    def cancel(self, folder: Path) -> str:
        if "command" in (job_record.read_job_record(folder) or {}):
            return "end torchrun with Ctrl-C on one of its nodes; all save and end"
        return job_record.cancel_launcher(folder, NAME)

    def command(self, command: list[str], resources: Resources, folder: Path) -> list[str]:
        """Return the agent's command, the same on every node."""
        endpoint = self.rendezvous or f"{LOOPBACK}:0"
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
            f"--rdzv-endpoint={endpoint}",
            # A machine's own name may not resolve to it.
            *([f"--local-addr={LOOPBACK}"] if endpoint.startswith((LOOPBACK, "localhost")) else []),
            "--no-python",
            *command,
        ]


def _run(command: list[str], *, threads: int) -> int:
    environment = os.environ | STORE_VARIABLES | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    received: list[int] = []
    # Its own group, so that Ctrl-C reaches the agent once, from here.
    with subprocess.Popen(command, env=environment, process_group=0, pass_fds=tuple(INHERITED_FILES)) as agent:

        def forward(number: int, frame: FrameType | None) -> None:
            received.append(number)
            # The agent ends its processes for these two signals alone.
            agent.send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)

        for number in FORWARDED_SIGNALS:
            signal.signal(number, forward)
        code = agent.wait()
    if received and code != DONE:  # the agent counts a signal to end as a failure
        return INTERRUPTED if received[0] == signal.SIGINT else PREEMPTED
    return code if code >= 0 else 128 - code
