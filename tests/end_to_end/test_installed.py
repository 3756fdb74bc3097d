"""The wheel alone, away from the sources, in an empty folder with a space in its name."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which `import pipeline` finds what the wheel holds, and nothing else of ours."""
    place = tmp_path_factory.mktemp("site packages")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(place / "built")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (place / "built").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "unpacked")
    return os.environ | {"PYTHONPATH": str(place / "unpacked"), "COLUMNS": "200"}


def run(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180, check=False
    )


def test_it_is_the_wheel_that_answers_with_its_own_options(installed: dict[str, str], tmp_path: Path) -> None:
    asked = "import pipeline.config.search_path as places; print(places.shipped_folder())"
    found = subprocess.run(
        [sys.executable, "-c", asked], cwd=tmp_path, env=installed, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == f"{installed['PYTHONPATH']}/pipeline/conf"
    info = run(tmp_path, installed, "train", "--info")
    assert info.returncode == 0 and "softmax_regression" in info.stdout and "mnist5k" in info.stdout


def test_it_trains_in_an_empty_folder_with_a_space_in_its_name(
    installed: dict[str, str], tmp_path: Path, program: Any
) -> None:
    folder = tmp_path / "an empty folder"
    folder.mkdir()
    done = run(folder, installed, "train", *program.SMALL, "trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert program.result(program.only_run(folder))["status"] == "FINISHED"
    assert [path.name for path in folder.iterdir()] == ["runs"]
