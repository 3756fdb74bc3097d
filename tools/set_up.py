"""Makes the virtual environment that `make` works in: python3 tools/set_up.py FOLDER run|dev

Installs what constraints/ lists, each file held against its SHA-256, and this checkout so that its files are used
where they are. A torch that is there already, in FOLDER or beside the Python that runs this, is kept; PINNED=1 takes
the pinned one all the same. Without an NVIDIA GPU a Linux machine gets torch's CPU build where one can be had: the
usual one brings gigabytes of CUDA. (The CPU build alone is in no list: it comes from torch's own index, which names
its SHA-256.) Needs nothing but the standard library.
"""

import fcntl
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request, urlopen

CHECKOUT = Path(__file__).resolve().parent.parent
CONSTRAINTS = CHECKOUT / "constraints"
LISTS = {"run": ("run",), "dev": ("run", "dev")}
EXTRAS = {"run": "", "dev": "[dev,dashboard,search,server]"}
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE_TIMEOUT_SECONDS = 3
LOG_LINES_SHOWN = 15


class SetUpError(Exception):
    """Says what is missing and how to get it."""


class Torch(NamedTuple):
    """An installed torch; `requires` holds the names of the packages that it needs."""

    version: str
    requires: list[str]


def main(folder: Path, extent: str) -> None:
    # One set-up at a time (`make -j2 train test`, two terminals); the lock falls with the process.
    with (CHECKOUT / "pyproject.toml").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_ready(folder, extent):
            return
        print(f"Setting up {folder} with Python {platform.python_version()}; this happens once.", flush=True)
        started = time.monotonic()
        python = make_environment(folder)
        install(python, extent, log=folder / "set-up.log")
        # The set-up for `dev` holds all of the one for `run`.
        for done in {"run", extent}:
            (folder / f".ready-{done}").write_text(f"{CHECKOUT}\n")
        print(f"Ready after {time.monotonic() - started:.0f} s.", flush=True)


def is_ready(folder: Path, extent: str) -> bool:
    """The Makefile's question, asked again once no other set-up is under way."""
    stamp = folder / f".ready-{extent}"
    depends_on = [CHECKOUT / "pyproject.toml", *CONSTRAINTS.glob("*.txt")]
    return (
        os.access(folder / "bin/python", os.X_OK)
        and stamp.exists()
        and stamp.read_text().strip() == str(CHECKOUT)
        and all(stamp.stat().st_mtime > file.stat().st_mtime for file in depends_on)
    )


def make_environment(folder: Path) -> Path:
    """The environment's Python; what is installed there stays, unless its Python runs no more."""
    python = folder / "bin/python"
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        raise SetUpError(f"{folder} holds something else than a virtual environment: choose another VENV=")
    if importlib.util.find_spec("ensurepip") is None:
        minor = ".".join(platform.python_version_tuple()[:2])
        raise SetUpError(
            f"{sys.executable} cannot make virtual environments: on Debian and Ubuntu type "
            f"`sudo apt install python{minor}-venv`, or name another Python with PYTHON="
        )
    if not runs(python, "-c", ""):
        venv.EnvBuilder(with_pip=True, symlinks=True, clear=folder.exists()).create(folder)
    elif not runs(python, "-m", "pip", "--version"):
        subprocess.run([python, "-m", "ensurepip"], capture_output=True, check=True)
    return python


def runs(*command: str | Path) -> bool:
    """Whether the command starts and ends well."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def install(python: Path, extent: str, log: Path) -> None:
    """torch first, so that the choice of its build is made before anything else asks for it."""
    pip = Pip(python, log)
    kept = None if os.environ.get("PINNED") == "1" else keep_torch(python)
    if kept is not None:
        print(f"  torch {kept.version} is here and is kept", flush=True)
    elif sys.platform != "linux" or has_nvidia() or not install_cpu_torch(pip, pinned_torch()):
        print("  torch", flush=True)
        pip.install_listed((CONSTRAINTS / "torch.txt").read_text())
    own = set() if kept is None or is_pinned(kept) else {"torch", *kept.requires}
    print("  all other packages", flush=True)
    for name in LISTS[extent]:
        pip.install_listed(without(own, (CONSTRAINTS / f"{name}.txt").read_text()))
    # All that is needed is there: only what a torch of the user's own goes with may be fetched now.
    pip.install_checkout(EXTRAS[extent], may_fetch=bool(own))


def without(names: set[str], listed: str) -> str:
    """A list of constraints/ but for these packages, each of which is its pin and the indented lines below it."""
    blocks = re.split(r"^(?=\S)", listed, flags=re.MULTILINE)
    return "".join(block for block in blocks if package_name(block) not in names)


def keep_torch(python: Path) -> Torch | None:
    """The torch of the environment, else one beside our own Python, which the environment is shown then."""
    found = torch_of(python)
    if found is None and (folder := torch_beside_us()) is not None:
        # A path file adds this one folder, after the environment's own: whatever is installed there wins.
        # --system-site-packages would do for an installed Python, but not for one in a virtual environment.
        (site_packages(python) / "torch_of_this_machine.pth").write_text(f"{folder}\n")
        found = torch_of(python)
    return found


def torch_of(python: Path) -> Torch | None:
    """What this Python imports as torch, when it is recent enough for us."""
    ask = "import importlib.metadata as m, json; print(json.dumps([m.version('torch'), m.requires('torch') or []]))"
    answer = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        return None
    version, requires = json.loads(answer.stdout)
    return Torch(version, [package_name(line) for line in requires]) if numbers(version) >= oldest_torch() else None


def package_name(requirement: str) -> str:
    """Of `typing_extensions>=4.10.0` it is `typing-extensions`."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def torch_beside_us() -> Path | None:
    """The folder that holds torch among the packages of the Python that runs this."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None or numbers(version) < oldest_torch():
        return None
    return Path(spec.origin).parent.parent


def site_packages(python: Path) -> Path:
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip())


def oldest_torch() -> tuple[int, int]:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return next(numbers(line) for line in project["dependencies"] if re.match(r"torch\b", line))


def numbers(text: str) -> tuple[int, int]:
    """Of `2.13.0+cpu` and of `torch>=2.13` they are (2, 13)."""
    major, minor, *_ = re.findall(r"\d+", text)
    return int(major), int(minor)


def pinned_torch() -> str:
    (version,) = re.findall(r"^torch==([^\s\\]+)", (CONSTRAINTS / "torch.txt").read_text(), re.MULTILINE)
    return str(version)


def is_pinned(kept: Torch) -> bool:
    return kept.version.split("+")[0] == pinned_torch()


def has_nvidia() -> bool:
    return (
        Path("/proc/driver/nvidia/version").exists()
        or Path("/usr/lib/wsl/lib/nvidia-smi").exists()
        or shutil.which("nvidia-smi") is not None
    )


def install_cpu_torch(pip: "Pip", version: str) -> bool:
    """From wherever pip looks already, else from torch's own index. False where neither has it."""
    print(f"  torch {version}, CPU build (no NVIDIA GPU here)", flush=True)
    wanted = ("--no-deps", f"torch=={version}+cpu")
    if pip.install(*wanted):
        return True
    if answers(TORCH_CPU_INDEX):
        if pip.install("--index-url", TORCH_CPU_INDEX, *wanted):
            return True
        if "No matching distribution" not in pip.last_lines():  # no reason to take another
            raise SetUpError(f"{pip.last_lines()}\n{TORCH_CPU_INDEX} broke off; the same command tries again.")
    print("  none can be had: the usual build may bring gigabytes of CUDA packages", flush=True)
    return False


def answers(index: str) -> bool:
    try:
        with urlopen(Request(f"{index}/torch/", method="HEAD"), timeout=PROBE_TIMEOUT_SECONDS):
            return True
    except OSError:  # no network, no such host, refused, too slow: all of them mean no
        return False


class Pip:
    """pip of one environment, its words in a log."""

    def __init__(self, python: Path, log: Path) -> None:
        self.python = python
        self.log = log
        log.write_text("")

    def install_listed(self, listed: str) -> None:
        """What a list of constraints/ names, and nothing else; every file must have one of the listed SHA-256."""
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "listed.txt"
            path.write_text(listed)
            self._must("--require-hashes", "--no-deps", "--requirement", str(path))

    def install_checkout(self, extras: str, *, may_fetch: bool) -> None:
        reach = () if may_fetch else ("--isolated", "--no-index")  # nor from a folder that the environment names
        self._must("--no-build-isolation", *reach, "--editable", f".{extras}")

    def install(self, *arguments: str) -> bool:
        quietly = ("--no-input", "--disable-pip-version-check")
        command: list[str | Path] = [self.python, "-m", "pip", "install", *quietly, *arguments]
        with self.log.open("a") as log:
            return subprocess.run(command, cwd=CHECKOUT, stdout=log, stderr=log, check=False).returncode == 0

    def _must(self, *arguments: str) -> None:
        if not self.install(*arguments):
            raise SetUpError(f"{self.last_lines()}\nThe packages could not be installed. All of it: {self.log}")

    def last_lines(self) -> str:
        return "\n".join(self.log.read_text().splitlines()[-LOG_LINES_SHOWN:])


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]).absolute(), sys.argv[2])
    except SetUpError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("\nThe set-up was interrupted; the same command goes on with it.")
