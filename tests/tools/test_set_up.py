"""The set-up, with real virtual environments and a real pip, for a checkout of a few files and offline."""

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def set_up() -> ModuleType:
    spec = importlib.util.spec_from_file_location("set_up", ROOT / "tools/set_up.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestLists:
    def test_leave_another_torch_and_what_it_needs_alone(self, set_up: ModuleType) -> None:
        listed = (ROOT / "constraints/run.txt").read_text()
        left = set_up.without({"torch", "sympy", "typing-extensions"}, listed)
        names = {set_up.package_name(line) for line in left.splitlines() if "==" in line}
        assert not {"sympy", "typing-extensions"} & names
        assert {"numpy", "mlflow", "torchmetrics"} < names
        assert len(names) == len(re.findall(r"(?m)^\w.*==", listed)) - 2
        assert left.count("--hash") < listed.count("--hash")

    def test_name_a_torch_that_the_package_works_with(self, set_up: ModuleType) -> None:
        assert set_up.numbers(set_up.pinned_torch()) >= set_up.oldest_torch()

    def test_bring_no_cuda_package_to_a_machine_without_a_gpu(self) -> None:
        listed = "".join((ROOT / f"constraints/{name}.txt").read_text() for name in ("run", "dev", "server"))
        assert [line for line in listed.splitlines() if line.startswith(("nvidia", "cuda", "triton", "torch="))] == []


def test_a_closed_port_is_no_index(set_up: ModuleType) -> None:
    assert not set_up.answers("http://127.0.0.1:9")


BACKEND = """
import zipfile
from pathlib import Path

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "small-1.0-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory) / name, "w") as wheel:
        wheel.writestr("small.pth", str(Path.cwd()))
        wheel.writestr("small-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\\nName: small\\nVersion: 1.0\\nRequires-Dist: torch>=2.6\\n")
        wheel.writestr("small-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("small-1.0.dist-info/RECORD", "")
    return name
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "small"
dependencies = ["torch>=2.6"]
"""


def write_wheel(folder: Path, name: str, version: str) -> str:
    """A package of one file; its line in a list."""
    folder.mkdir(exist_ok=True)
    info, path = f"{name}-{version}.dist-info", folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", f"__version__ = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


class Checkout:
    """A package that needs torch, and a folder of wheels that is all that pip can see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheels = folder / "wheels"
        (folder / "tools").mkdir(parents=True)
        shutil.copy(ROOT / "tools/set_up.py", folder / "tools")
        (folder / "backend.py").write_text(BACKEND)
        (folder / "pyproject.toml").write_text(PYPROJECT)
        (folder / "constraints").mkdir()
        self.list("torch", write_wheel(self.wheels, "torch", "2.13.0"))
        self.list("run", write_wheel(self.wheels, "tidy", "1.0"))

    def list(self, name: str, lines: str) -> None:
        (self.folder / f"constraints/{name}.txt").write_text(lines)

    def run(self, name: str, python: str | Path = sys.executable, **variables: str) -> str:
        """The Python of these tests has a torch of its own, which only PINNED=1 keeps out of a new environment."""
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PIP_NO_INDEX": "1", **variables}
        environ |= {"PIP_FIND_LINKS": self.wheels.as_uri(), "https_proxy": "http://127.0.0.1:9"}
        command = [str(python), "tools/set_up.py", name, "run"]
        done = subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def torch(self, name: str) -> str:
        """The version that the environment imports."""
        command = [self.folder / name / "bin/python", "-c", "import torch; print(torch.__version__)"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path.resolve() / "a checkout")


def without_gpu() -> bool:
    return shutil.which("nvidia-smi") is None and not Path("/proc/driver/nvidia/version").exists()


@pytest.mark.slow
class TestTorch:
    @pytest.mark.skipif(platform.system() != "Linux" or not without_gpu(), reason="Linux without a GPU only")
    def test_is_the_cpu_build_on_linux_without_a_gpu(self, checkout: Checkout) -> None:
        write_wheel(checkout.wheels, "torch", "2.13.0+cpu")
        told = checkout.run(".venv", PINNED="1")
        assert "CPU build (no NVIDIA GPU here)" in told
        assert checkout.torch(".venv") == "2.13.0+cpu"
        assert checkout.run(".venv") == ""  # ready: nothing to do, nothing to say

    def test_that_the_environment_has_is_kept(self, checkout: Checkout) -> None:
        checkout.run(".venv", PINNED="1")
        checkout.list("torch", write_wheel(checkout.wheels, "torch", "2.14.0"))
        assert "torch 2.13.0 is here and is kept" in checkout.run(".venv")
        assert checkout.torch(".venv") == "2.13.0"

    def test_that_the_users_own_python_has_is_kept_unless_the_pinned_is_asked_for(self, checkout: Checkout) -> None:
        write_wheel(checkout.wheels, "torch", "2.13.0+cpu")
        write_wheel(checkout.wheels, "torch", "2.7.1+cu126")
        mine = checkout.folder / "mine"
        subprocess.run([sys.executable, "-m", "venv", mine], check=True)
        wheel = checkout.wheels / "torch-2.7.1+cu126-py3-none-any.whl"
        subprocess.run([mine / "bin/python", "-m", "pip", "install", "-q", "--no-index", wheel], check=True)

        assert "torch 2.7.1+cu126 is here and is kept" in checkout.run(".venv", python=mine / "bin/python")
        assert checkout.torch(".venv") == "2.7.1+cu126"
        checkout.run(".venv-pinned", python=mine / "bin/python", PINNED="1")
        assert checkout.torch(".venv-pinned").startswith("2.13.0")


@pytest.mark.slow
class TestWhatCannotBeInstalled:
    def refused(self, checkout: Checkout) -> str:
        told = checkout.run(".venv", PINNED="1")
        assert "The packages could not be installed" in told
        assert "Traceback" not in told
        assert not (checkout.folder / ".venv/.ready-run").exists()
        return told

    def test_is_told_with_pips_words_and_leaves_no_stamp(self, checkout: Checkout) -> None:
        checkout.list("run", "nowhere==9.9.9 --hash=sha256:" + 64 * "0")
        assert "No matching distribution found for nowhere==9.9.9" in self.refused(checkout)

    @pytest.mark.parametrize("name", ["tidy", "torch"])
    def test_is_a_file_with_other_bytes_than_those_that_are_listed(self, checkout: Checkout, name: str) -> None:
        (wheel,) = checkout.wheels.glob(f"{name}-*.whl")
        with zipfile.ZipFile(wheel, "a") as file:
            file.writestr(f"{name}/more.py", "print('not what was reviewed')")
        assert "DO NOT MATCH THE HASHES" in self.refused(checkout)

    def test_is_a_package_that_no_list_names(self, checkout: Checkout) -> None:
        write_wheel(checkout.wheels, "stray", "1.0")
        (checkout.folder / "backend.py").write_text(BACKEND.replace("torch>=2.6", "stray"))
        assert "No matching distribution found for stray" in self.refused(checkout)


def test_a_folder_with_something_else_in_it_is_not_touched(checkout: Checkout) -> None:
    (checkout.folder / "thesis").mkdir()
    (checkout.folder / "thesis/chapter.txt").write_text("1")
    assert "holds something else than a virtual environment" in checkout.run("thesis")
    assert os.listdir(checkout.folder / "thesis") == ["chapter.txt"]
