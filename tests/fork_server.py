"""A fork server: programs under test that begin with torch and Lightning imported, which takes them seconds otherwise.

With `programs_come(popen_of(Server()))`, `subprocess.Popen` asks the server for each `pipeline ...` and for `python -m`
of one of PACKAGES. What it gets is a real child process: with a process id, group, environment, working directory,
streams, command line and exit code of its own, to be waited for and killed as any other. Beside each such process waits
a server of its own, forked before anything else happened in it, for the processes that it starts itself.

A command that would import other code than the server did, or that the server cannot start in just the same way, starts
from nothing. So do all of them without Linux, with `pytest --cold`, and in tests marked `cold`. `python -c` comes from
the server if what it runs begins with the line `# warm`.
"""

import ctypes
import fcntl
import gc
import importlib
import inspect
import io
import json
import logging
import os
import pkgutil
import re
import runpy
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

SCRIPT = str(Path(sysconfig.get_path("scripts")) / "pipeline")
LATER = ("mlflow.pytorch", "mlflow.pyfunc", "mlflow.server", "sklearn.datasets", "optuna")  # what functions import
# Read by the interpreter as it starts, or by a library that is imported: with another value a command starts cold.
READ_EARLY = re.compile(r"ARROW_|COVERAGE_|HF_|HYDRA_|KMP_|LANG|LC_|LD_|MALLOC_|MKL_|MPL|OMP_|OPENBLAS_|PYTHON|TORCH_")
FROM_NOTHING: Callable[..., None] = subprocess.Popen._execute_child  # type: ignore[attr-defined]
PACKAGES = ("pipeline", "mlflow", "uvicorn", "pytest")  # which `python -m` comes from the server
WARM = "# warm\n"
THREADS = "OMP_NUM_THREADS"  # can be set afterwards, too
WAITING = "OMP_WAIT_POLICY"  # only how long a thread spins that has nothing to do
MESSAGE_BYTES, FILES = 200_000, 64
SIGNALS = set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}
# Constants of Linux.
CLONE_PARENT, CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID = 0x8000, 0x200000, 0x1000000
SYS_CLONE = {"x86_64": 56, "aarch64": 220}
PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_MM, PR_SET_MM_MAP, PR_GET_TID_ADDRESS = 1, 15, 35, 14, 40


# --- In the process that starts others ------------------------------------------------------------------------------


class Server:
    """As seen by the process that asks."""

    def __init__(self, connection: socket.socket | None = None, variables: dict[str, str] | None = None) -> None:
        self.connection = connection  # None until it is needed
        self.variables = variables or dict(os.environ)  # in which it imported everything
        self.lock = threading.Lock()

    def connected(self) -> socket.socket:
        if self.connection is None:
            self.connection, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            command = [sys.executable, __file__, str(there.fileno())]
            with there:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, pass_fds=[there.fileno()], env=self.variables
                )
        return self.connection

    def end(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.process.wait()

    def start(self, given: dict[str, Any]) -> int:
        """The id of a process as Popen was asked for, 0 if it has to start cold."""
        asked = what_to_run(given)
        if asked is None or not self.has_read(asked["environment"]):
            return 0
        ends = ((given["p2cread"], 0), (given["c2pwrite"], 1), (given["errwrite"], 2))
        streams = [own if end == -1 else end for end, own in ends]
        try:
            folder = os.open(given["cwd"] or ".", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return 0  # a cold start raises what is to be raised
        try:
            with self.lock:
                connection = self.connected()
                socket.send_fds(connection, [json.dumps(asked).encode()], [folder, *streams, *asked["handed"]])
                return int(connection.recv(100) or b"0")
        except OSError:
            return 0  # a stream is closed
        finally:
            os.close(folder)

    def has_read(self, environment: dict[str, str]) -> bool:
        """Whether its libraries found what they would find in this environment."""
        here, there = ({name: value for name, value in each.items() if value} for each in (self.variables, environment))
        changed = {name for name, _ in here.items() ^ there.items() if READ_EARLY.match(name)}
        return changed <= {THREADS, WAITING} and environment.get(THREADS, "1").isdigit()


def what_to_run(given: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments of Popen as a message; None if it is no program of the package, or is to start in a special way."""
    if isinstance(given["args"], str | bytes | os.PathLike) or given["shell"] or not given["close_fds"]:
        return None
    if any(given[name] is not None for name in ("executable", "preexec_fn", "gid", "gids", "uid")):
        return None
    command = [os.fsdecode(word) for word in given["args"]]
    words = [word for word in command[1:] if word != "-P"]
    if command[0] == SCRIPT:
        program = {"module": None, "code": None, "arguments": command, "path": str(Path(SCRIPT).parent)}
    elif command[0] == sys.executable and words[:1] == ["-m"] and words[1].partition(".")[0] in PACKAGES:
        path = None if "-P" in command[:2] else "."
        program = {"module": words[1], "code": None, "arguments": words[1:], "path": path}
    elif command[0] == sys.executable and words[:1] == ["-c"] and words[1].startswith(WARM):
        program = {"module": None, "code": words[1], "arguments": ["-c", *words[2:]], "path": ""}
    else:
        return None
    return {
        **program,
        "command": command,
        "environment": {os.fsdecode(name): os.fsdecode(value) for name, value in (given["env"] or os.environ).items()},
        "handed": [int(number) for number in given["pass_fds"]],
        "session": bool(given["start_new_session"]),
        "group": given["process_group"],
        "umask": given["umask"],
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "ignored": [int(number) for number in SIGNALS if signal.getsignal(number) == signal.SIG_IGN],
    }


def popen_of(server: Server) -> Callable[..., None]:
    """What is to be Popen's `_execute_child` for programs to come from the server."""
    signature = inspect.signature(FROM_NOTHING)

    def execute_child(self: Any, *positional: Any, **named: Any) -> None:
        given = signature.bind(self, *positional, **named).arguments
        pid = server.start(given)
        if pid == 0:
            FROM_NOTHING(self, *positional, **named)
            return
        self.pid = pid
        self._child_created = True
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(given[name] for name in ends))

    # What the server starts is a child of this process, and not of one that this process forks.
    os.register_at_fork(after_in_child=lambda: setattr(subprocess.Popen, "_execute_child", FROM_NOTHING))
    return execute_child


@contextmanager
def programs_come(execute_child: Callable[..., None]) -> Iterator[None]:
    before = subprocess.Popen._execute_child  # type: ignore[attr-defined]
    subprocess.Popen._execute_child = execute_child  # type: ignore[attr-defined]
    try:
        yield
    finally:
        subprocess.Popen._execute_child = before  # type: ignore[attr-defined]


def is_possible() -> bool:
    return sys.platform == "linux" and os.uname().machine in SYS_CLONE


# --- In the server --------------------------------------------------------------------------------------------------


def import_all() -> None:
    import pipeline

    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"  # pyarrow's, which would be a second thread
    for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in LATER:
        importlib.import_module(name)
    logging.getLogger().handlers.clear()  # of mlflow's server
    gc.collect()
    gc.freeze()
    # The threads of numpy and scipy end in a process that forks, and begin again where they are needed.
    if os.fork() == 0:
        os._exit(0)
    os.wait()


def serve(connection: socket.socket, variables: dict[str, str]) -> dict[str, Any]:
    """Answer until nobody asks any more. Returns in each process that was asked for, with what it is to run."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until a new process is ready for them
    while True:
        message, files, *_ = socket.recv_fds(connection, MESSAGE_BYTES, FILES)
        if not message:
            os._exit(0)
        asked: dict[str, Any] = json.loads(message)
        if asked["path"] in ("", ".") and shadows(files[0]):
            connection.send(b"0")
        elif clone() == 0:
            if asked["session"]:
                os.setsid()
            if asked["group"] >= 0:
                os.setpgid(0, asked["group"])
            here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            if os.fork() > 0:
                connection.send(str(os.getpid()).encode())
                become(asked, files, Server(here, variables))
                return asked
            # The server of the new process, as this one is.
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            nothing = os.open(os.devnull, os.O_RDWR)
            connection = place_files([nothing] * 3, [], there)
            here.detach()
            continue
        for number in files:
            os.close(number)


def shadows(folder: int) -> bool:
    """Whether a file there would be imported in place of what the server has imported."""
    names = {name.partition(".")[0] for name in os.listdir(folder) if name.endswith((".py", ".so"))}
    return not names.isdisjoint(sys.modules)


def clone() -> int:
    """os.fork(), but the parent of the child is the parent of the server, which asked for it.

    The C library's own work at a fork is left out: there is one thread, and nobody holds a lock.
    """
    assert len(os.listdir("/proc/self/task")) == 1, "the fork server has several threads"
    library = ctypes.PyDLL(None)
    thread = ctypes.c_void_p()  # where the C library keeps the number of this thread
    library.prctl(PR_GET_TID_ADDRESS, ctypes.byref(thread), 0, 0, 0)
    flags = CLONE_PARENT | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | signal.SIGCHLD
    zero, machine = ctypes.c_long(0), os.uname().machine
    pointers = (thread, zero) if machine == "x86_64" else (zero, thread)
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(library.syscall(ctypes.c_long(SYS_CLONE[machine]), ctypes.c_long(flags), zero, zero, *pointers))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
    assert pid >= 0, "the fork server cannot fork"
    return pid


# --- In a process that was asked for --------------------------------------------------------------------------------


def become(asked: dict[str, Any], files: list[int], own: Server) -> None:
    """Make everything as it is in a process that was started from nothing."""
    os.fchdir(files[0])
    if asked["umask"] >= 0:
        os.umask(asked["umask"])
    os.setpriority(os.PRIO_PROCESS, 0, asked["priority"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    own.connection = place_files(files[1:], asked["handed"], own.connection)
    subprocess.Popen._execute_child = popen_of(own)  # type: ignore[attr-defined]
    renew_streams()
    name_process(asked["command"])
    sys.path[:1] = [] if asked["path"] is None else [asked["path"] and os.path.abspath(asked["path"])]
    sys.argv = list(asked["arguments"])
    importlib.invalidate_caches()
    tempfile.tempdir = None
    sys.modules["numpy"].random.seed()
    rank_zero = sys.modules["lightning_fabric.utilities.rank_zero"]
    rank_zero.rank_zero_only.rank = rank_zero._get_rank() or 0  # as where it is imported
    if THREADS in os.environ:
        sys.modules["torch"].set_num_threads(int(os.environ[THREADS]))
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    for number in {signal.SIGPIPE, signal.SIGXFSZ, *asked["ignored"]}:
        signal.signal(number, signal.SIG_IGN)
    if signal.SIGINT not in asked["ignored"]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def place_files(streams: list[int], handed: list[int], connection: socket.socket) -> socket.socket:
    """Standard input, output, error, and what was handed down, each under its number; the connection; nothing else."""
    places = [0, 1, 2, *handed]
    above = max(places) + 1
    copies = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, above) for number in (*streams, connection.detach())]
    for number, place in zip(copies, places, strict=False):
        os.dup2(number, place)
    for number in {int(name) for name in os.listdir("/proc/self/fd")} - {*places, copies[-1]}:
        with suppress(OSError):  # the list itself was open
            os.close(number)
    return socket.socket(fileno=copies[-1])


def renew_streams() -> None:
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        opened = open(number, "rb" if number == 0 else "wb", closefd=False)  # noqa: SIM115 - it lasts
        is_line_buffered = number == 2 or opened.isatty()
        new = io.TextIOWrapper(opened, old.encoding, old.errors, line_buffering=is_line_buffered)
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


class MemoryMap(ctypes.Structure):
    """Linux's `struct prctl_mm_map`."""

    NAMES = "start_code end_code start_data end_data start_brk brk start_stack arg_start arg_end env_start env_end auxv"
    _fields_ = (
        *((name, ctypes.c_uint64) for name in NAMES.split()),
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_int32),
    )


def name_process(command: list[str]) -> None:
    """What `ps` and psutil show of it."""
    global words
    words = ctypes.create_string_buffer(b"\0".join(map(os.fsencode, command)))
    library = ctypes.CDLL(None)
    library.prctl(PR_SET_NAME, os.path.basename(os.fsencode(command[0])))
    library.sbrk.restype, library.sbrk.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start_code, end_code, start_stack = map(int, fields[23:26])
    start_data, end_data, start_brk, _, _, env_start, env_end = map(int, fields[42:49])
    first = ctypes.addressof(words)
    code_and_data = (start_code, end_code, start_data, end_data, start_brk, library.sbrk(0), start_stack)
    shown = MemoryMap(*code_and_data, first, first + len(words), env_start, env_end, 0, 0, -1)
    library.prctl(PR_SET_MM, PR_SET_MM_MAP, ctypes.byref(shown), ctypes.c_ulong(ctypes.sizeof(shown)), 0)


def run(asked: dict[str, Any]) -> NoReturn:
    """Run the program, and end as the interpreter does, but for the taking apart of all that is imported."""
    try:
        run_program(asked)
        code: Any = 0
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except Exception:  # noqa: BLE001 - told as the interpreter does
        sys.excepthook(*sys.exc_info())
        code = 1
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    sys.modules["pipeline.system.process"].exit_without_teardown(code or 0)


def run_program(asked: dict[str, Any]) -> None:
    if asked["code"] is not None:
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(asked["code"], vars(main))  # noqa: S102 - a test's own
        return
    if asked["module"] is None:
        from pipeline.cli import main

        sys.exit(main())
    if not hasattr(sys.modules.get(asked["module"]), "__path__"):
        sys.modules.pop(asked["module"], None)  # it is run, not imported
    runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    variables = dict(os.environ)
    import_all()
    run(serve(socket.socket(fileno=int(sys.argv[1])), variables))
