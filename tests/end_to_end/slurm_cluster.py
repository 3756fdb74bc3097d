"""A real SLURM of two nodes on this host, without systemd: Debian's packages accept several slurmd on one machine."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
SECONDS_TO_START = 30.0
CONFIGURATION = """
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge/munge.socket
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool.%n
SlurmctldPidFile={root}/pid/slurmctld.pid
SlurmdPidFile={root}/pid/slurmd.%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
MpiDefault=none
ReturnToService=2
KillWait=30
TreeWidth=65533
NodeName=node[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[2]}] CPUs=2 RealMemory=8000
PartitionName=main Nodes=node[1-2] Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=30
PartitionName=high Nodes=node[1-2] MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def why_not() -> str | None:
    """What is missing to run one here."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"no {missing[0]} here: apt-get install --no-install-recommends slurm-wlm munge"
    return None if os.geteuid() == 0 else "SLURM's daemons are started as root"


@contextmanager
def cluster(root: Path) -> Iterator[None]:
    """SLURM_CONF points to it while it is up."""
    for name in ("munge", "state", "spool.node1", "spool.node2", "log", "pid"):
        (root / name).mkdir(parents=True)
    (root / "munge").chmod(0o711)
    key = root / "munge/key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    ports = _free_ports()
    configuration = CONFIGURATION.format(host=socket.gethostname().split(".")[0], root=root, ports=ports)
    (root / "slurm.conf").write_text(configuration)
    os.environ["SLURM_CONF"] = str(root / "slurm.conf")
    try:
        _run(
            "munged", f"--key-file={key}", f"--socket={root}/munge/munge.socket", f"--pid-file={root}/pid/munged.pid",
            f"--log-file={root}/log/munged.log", f"--seed-file={root}/munge/seed", "--num-threads=2", "--force",
        )  # fmt: skip
        _run("slurmctld", "-c")
        _run("slurmd", "-N", "node1")
        _run("slurmd", "-N", "node2")
        deadline = time.monotonic() + SECONDS_TO_START
        while slurm("sinfo", "-h", "-p", "main", "-t", "idle", "-o", "%D") != "2":
            assert time.monotonic() < deadline, (root / "log/slurmctld.log").read_text()[-2000:]
            time.sleep(0.2)
        yield
    finally:
        # Jobs that a failed test left behind would outlive the daemons.
        slurm("scancel", "--user=root")
        deadline = time.monotonic() + SECONDS_TO_START
        while slurm("squeue", "-h") and time.monotonic() < deadline:
            time.sleep(0.2)
        del os.environ["SLURM_CONF"]
        for path in (root / "pid").iterdir():
            subprocess.run(["kill", path.read_text().strip()], check=False, capture_output=True)


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout.strip()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=30, capture_output=True)


def _free_ports() -> list[int]:
    """One, and two that follow each other."""
    for first in range(17_000 + os.getpid() % 1000, 19_000, 3):
        ports = [first, first + 1, first + 2]
        try:
            for port in ports:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return ports
    raise AssertionError("no three free ports")
