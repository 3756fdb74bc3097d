import subprocess
from pathlib import Path

import pytest

from pipeline.runs import environment


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    git("init", "-q", "-b", "trunk")
    (tmp_path / "code.py").write_text("1")
    git("add", "-A")
    git("commit", "-q", "-m", "First")
    return tmp_path


def test_a_clean_git_tree_differs_from_a_changed_one(repository: Path) -> None:
    clean = environment.git_state(repository)
    assert clean is not None and len(clean["commit"]) == 40
    assert not clean["dirty"] and clean["branch"] == "trunk"
    (repository / "runs").mkdir()
    (repository / "runs/new").write_text("untracked files are no change of the code")
    assert environment.git_state(repository) == clean
    (repository / "code.py").write_text("2")
    assert environment.git_state(repository) == clean | {"dirty": True}


def test_outside_a_repository_and_without_git_there_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert environment.git_state(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.git_state(Path(__file__).parent) is None


def test_versions_and_hardware_are_plain_values() -> None:
    described = environment.describe_environment(["pipeline", "train"])
    assert described["command"] == ["pipeline", "train"]
    assert described["packages"]["torch"] and described["processor"] and described["cores"] >= 1
