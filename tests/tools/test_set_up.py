"""The set-up, with real virtual environments and a real pip, for a checkout of a few files and offline."""

import importlib.util
import os
import platform
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


class TestPins:
    def test_are_used_as_they_are_beside_the_torch_that_they_name(self, set_up: ModuleType) -> None:
        kept = set_up.Torch(set_up.pinned_torch() + "+cu130", ["sympy"])
        assert set_up.pins_beside(kept) == (ROOT / "constraints.txt").read_text()

    def test_leave_another_torch_and_what_it_needs_alone(self, set_up: ModuleType) -> None:
        kept = set_up.Torch("2.6.0+cu124", ["sympy", "typing-extensions"])
        pins = set_up.pins_beside(kept).splitlines()
        names = {line.split("==")[0].lower() for line in pins}
        assert "torch==2.6.0+cu124" in pins
        assert not {"sympy", "typing_extensions"} & names
        assert {"numpy", "mlflow", "torchmetrics"} < names

    def test_name_a_torch_that_the_package_works_with(self, set_up: ModuleType) -> None:
        assert set_up.numbers(set_up.pinned_torch()) >= set_up.oldest_torch()

    def test_name_no_build_of_torch_and_no_cuda_package(self) -> None:
        lines = (ROOT / "constraints.txt").read_text().splitlines()
        pins = [line for line in lines if not line.startswith("#")]
        assert all(line.count("==") == 1 and "+" not in line for line in pins)
        assert not [line for line in pins if line.startswith(("nvidia", "triton"))]


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


def write_torch(folder: Path, version: str) -> None:
    folder.mkdir(exist_ok=True)
    info = f"torch-{version}.dist-info"
    with zipfile.ZipFile(folder / f"torch-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("torch/__init__.py", f"__version__ = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


class Checkout:
    """A package that needs torch, and a folder of wheels that is all that pip can see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheels = folder / "wheels"
        (folder / "tools").mkdir(parents=True)
        shutil.copy(ROOT / "tools/set_up.py", folder / "tools")
        (folder / "backend.py").write_text(BACKEND)
        (folder / "pyproject.toml").write_text(PYPROJECT)
        (folder / "constraints.txt").write_text("torch==2.13.0\n")
        write_torch(self.wheels, "2.13.0")

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
        write_torch(checkout.wheels, "2.13.0+cpu")
        told = checkout.run(".venv", PINNED="1")
        assert "CPU build (no NVIDIA GPU here)" in told
        assert checkout.torch(".venv") == "2.13.0+cpu"
        assert checkout.run(".venv") == ""  # ready: nothing to do, nothing to say

    def test_that_the_environment_has_is_kept(self, checkout: Checkout) -> None:
        checkout.run(".venv", PINNED="1")
        write_torch(checkout.wheels, "2.14.0")
        (checkout.folder / "constraints.txt").write_text("torch==2.14.0\n")
        assert "torch 2.13.0 is here and is kept" in checkout.run(".venv")
        assert checkout.torch(".venv") == "2.13.0"

    def test_that_the_users_own_python_has_is_kept_unless_the_pinned_is_asked_for(self, checkout: Checkout) -> None:
        write_torch(checkout.wheels, "2.13.0+cpu")
        write_torch(checkout.wheels, "2.7.1+cu126")
        mine = checkout.folder / "mine"
        subprocess.run([sys.executable, "-m", "venv", mine], check=True)
        wheel = checkout.wheels / "torch-2.7.1+cu126-py3-none-any.whl"
        subprocess.run([mine / "bin/python", "-m", "pip", "install", "-q", "--no-index", wheel], check=True)

        assert "torch 2.7.1+cu126 is here and is kept" in checkout.run(".venv", python=mine / "bin/python")
        assert checkout.torch(".venv") == "2.7.1+cu126"
        checkout.run(".venv-pinned", python=mine / "bin/python", PINNED="1")
        assert checkout.torch(".venv-pinned").startswith("2.13.0")


@pytest.mark.slow
def test_what_cannot_be_installed_is_told_with_pips_words_and_leaves_no_stamp(checkout: Checkout) -> None:
    (checkout.folder / "constraints.txt").write_text("torch==9.9.9\n")
    told = checkout.run(".venv", PINNED="1")
    assert "The packages could not be installed" in told
    assert "The user requested (constraint) torch==9.9.9" in told
    assert "Traceback" not in told
    assert not (checkout.folder / ".venv/.ready-run").exists()


def test_a_folder_with_something_else_in_it_is_not_touched(checkout: Checkout) -> None:
    (checkout.folder / "thesis").mkdir()
    (checkout.folder / "thesis/chapter.txt").write_text("1")
    assert "holds something else than a virtual environment" in checkout.run("thesis")
    assert os.listdir(checkout.folder / "thesis") == ["chapter.txt"]
