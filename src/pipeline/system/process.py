"""The rank of this process, from the environment that launchers set, and helpers for starting and ending processes."""

import atexit
import os
import re
import signal
import sys
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from pipeline.errors import ConfigError


@dataclass(frozen=True)
class Rank:
    """The place of a process: `rank` of `world_size` over all nodes, which run `local_world_size` processes each."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def nodes(self) -> int:
        return self.world_size // self.local_world_size


TORCHRUN_VARIABLES = (
    "RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT"  # by torchrun, in a shell that it was exported to
)
SINGLE_PROCESS = Rank(rank=0, world_size=1, local_rank=0, local_world_size=1)
# What Lightning and torch make a process's place of, as they are imported; and by how their kin begins.
RANK_VARIABLES = (
    *TORCHRUN_VARIABLES.split(),
    "LOCAL_WORLD_SIZE",
    "NODE_RANK",
    "GROUP_RANK",
    "JSM_NAMESPACE_RANK",
    "SLURM_PROCID",
)
LAUNCHER_PREFIXES = (*RANK_VARIABLES, "SLURM_", "TORCHELASTIC_")


def process_rank() -> Rank:
    """Return the rank of this process; SINGLE_PROCESS if no launcher set one."""
    return rank_from_environment() or SINGLE_PROCESS


def rank_from_environment() -> Rank | None:
    """Return the rank set by our launcher or torchrun (RANK, WORLD_SIZE, ...), or by srun for a step of several tasks.

    One of these variables without the others, and a world of one process that torchrun did not make, say nothing: they
    are left over in a shell. Raises ConfigError for values that contradict each other, and where the nodes of a SLURM
    step run different numbers of tasks.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        world_size = _number("WORLD_SIZE", 1, least=1)
        place = Rank(
            _number("RANK", 0, below=world_size),
            world_size,
            _number("LOCAL_RANK", 0, below=world_size),
            _number("LOCAL_WORLD_SIZE", world_size, least=1, below=world_size + 1),
        )
        if world_size % place.local_world_size != 0:
            raise ConfigError(
                f"WORLD_SIZE={world_size} processes do not divide into nodes of LOCAL_WORLD_SIZE="
                f"{place.local_world_size}: every node must run as many. {unset_command()}"
            )
        if world_size == 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
            return None
        if world_size > 1:
            _check_meeting_point()
        return place
    # Not SLURM_NTASKS: that is also set in a batch script, outside of any task.
    tasks = _number("SLURM_STEP_NUM_TASKS", 1, least=1)
    if tasks > 1:
        rank, local_rank = _number("SLURM_PROCID", 0, below=tasks), _number("SLURM_LOCALID", 0, below=tasks)
        return Rank(rank, tasks, local_rank, _tasks_on_a_node(tasks))
    return None


def drop_empty_launcher_variables() -> None:
    """Remove empty variables of launchers, as `RANK=` leaves them: Lightning and torch would read them as numbers."""
    for name in [name for name, value in os.environ.items() if not value and name.startswith(LAUNCHER_PREFIXES)]:
        del os.environ[name]


def drop_rank_variables() -> None:
    """Remove variables that an earlier launch left in this shell: what runs in one process must not read them."""
    for name in RANK_VARIABLES:
        os.environ.pop(name, None)


def unset_command() -> str:
    """Return the sentence that says how to unset the variables of an earlier launch."""
    by_srun = "SLURM_STEP_NUM_TASKS" in os.environ and "RANK" not in os.environ
    names = "SLURM_STEP_NUM_TASKS SLURM_PROCID SLURM_LOCALID" if by_srun else TORCHRUN_VARIABLES
    return f"If nobody else was started, the variables are left over in this shell:\n  unset {names}"


def _number(name: str, default: int, *, least: int = 0, below: int | None = None) -> int:
    text = os.environ.get(name, str(default))
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < least or (below is not None and int(text) >= below):
        wanted = f"{least} or more" if below is None else f"{least} to {below - 1}"
        raise ConfigError(f"{name}={text} is set in the environment: expected a number, {wanted}. {unset_command()}")
    return int(text)


def _check_meeting_point() -> None:
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise ConfigError(
            f"RANK={os.environ['RANK']} and WORLD_SIZE={os.environ['WORLD_SIZE']} are set in the environment, but not "
            f"{' and '.join(missing)}, where the processes are to meet. {unset_command()}"
        )
    _number("MASTER_PORT", 1, least=1, below=65536)


def _tasks_on_a_node(tasks: int) -> int:
    counts = os.environ.get("SLURM_STEP_TASKS_PER_NODE", str(tasks))  # "2(x4)", or "2,1"
    match = re.fullmatch(r"(\d+)(\(x\d+\))?", counts)
    if match is None:
        raise ConfigError(
            f"SLURM started {counts} tasks on its nodes; every node must run as many, such as --ntasks-per-node=2"
        )
    return int(match[1])


def launch_id() -> str | None:
    """Return the id that processes started together, and their replacements, share.

    It is None outside of torchrun and SLURM. torchrun's id is what `--rdzv-id` says; without it all have the same.
    """
    read = os.environ.get
    named = read("TORCHELASTIC_RUN_ID")
    if named is not None:
        return f"torchrun-{named}" if named != "none" else f"torchrun-{read('MASTER_ADDR')}-{os.getppid()}"
    if "SLURM_JOB_ID" in os.environ and "SLURM_STEP_ID" in os.environ:
        return f"slurm-{read('SLURM_JOB_ID')}-{read('SLURM_STEP_ID')}"
    return None


def leave_slurm_array() -> int:
    """Return this job's index in its SLURM array, and remove SLURM's variables, which children must not read."""
    number = int(os.environ["SLURM_ARRAY_TASK_ID"])
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        del os.environ[name]
    return number


def rank_environment(place: Rank, *, master_address: str, master_port: int) -> dict[str, str]:
    """Return the variables that give a new process this rank (`process_rank`, Lightning, torch.distributed)."""
    node = place.rank // place.local_world_size
    return {
        "RANK": str(place.rank),
        "WORLD_SIZE": str(place.world_size),
        "LOCAL_RANK": str(place.local_rank),
        "LOCAL_WORLD_SIZE": str(place.local_world_size),
        "NODE_RANK": str(node),
        "GROUP_RANK": str(node),
        "MASTER_ADDR": master_address,
        "MASTER_PORT": str(master_port),
    }


def module_command(module: str, *arguments: str) -> list[str]:
    """Return a command that runs a module in a new process.

    `-P`, because `-m` alone puts the working directory before everything that is installed: a user's folder named
    `data` or `pipeline` would be imported in place of a package.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def check_working_directory() -> None:
    """Raise ConfigError if the working directory was deleted: relative paths lead nowhere from there."""
    try:
        os.getcwd()
    except OSError as problem:
        raise ConfigError(
            f"the working directory cannot be entered any more ({problem.strerror}); expected one that is there:\n"
            '  cd "$PWD"    where it was made anew, else  cd  to another one'
        ) from None


def add_working_directory_to_path() -> None:
    """Append the working directory to sys.path, where users have packages of their own: a console script lacks it."""
    with suppress(OSError):
        here = os.getcwd()
        if here not in sys.path:
            sys.path.append(here)


def ignore_warnings_as_errors() -> None:
    """Undo PYTHONWARNINGS=error here and in child processes: a warning of one library must not end a training."""
    if "error" in os.environ.get("PYTHONWARNINGS", ""):
        del os.environ["PYTHONWARNINGS"]
        sys.warnoptions.clear()
        warnings.resetwarnings()
        warnings.simplefilter("ignore", ResourceWarning)


PARENT_VARIABLE = "PIPELINE_PARENT"
INHERITED_FILES: set[int] = set()  # open files that the processes of a run get from the one that starts them


def exit_with_parent(*, poll_seconds: float = 0.5, grace_seconds: float = 15.0) -> None:
    """End this process, saved, soon after the one that started it is gone: it must not go on unseen.

    The parent may die by `kill -9` and tell nobody. A thread sends SIGTERM to this process, and ends it the hard
    way when that does not help within `grace_seconds`. It may also have died before this was called: who starts a
    process that is to follow it says which it is (PARENT).
    """
    told = os.environ.pop(PARENT_VARIABLE, None)  # of this process alone, not of those that it starts
    parent = os.getppid() if told is None else int(told)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(poll_seconds)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_seconds)
        os._exit(1)

    threading.Thread(target=watch, name="follow-parent", daemon=True).start()


def exit_without_teardown(code: int) -> NoReturn:
    """End this process as `sys.exit` does, but for the taking apart of the interpreter.

    A thread of gloo's may still hold a tensor of its last operation. It asks for the interpreter when it lets go, and
    one that is being taken apart ends the process by SIGABRT: a training that went well would be called failed, and
    on SLURM the whole job (https://github.com/pytorch/pytorch/pull/179291, not merged).
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError):  # None where the stream is closed (`>&-`); nobody may read it any more
            stream.flush()
    os._exit(code)
