"""What `pipeline new-data` and `pipeline new-model` write, and what they refuse."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.commands.scaffold.project import KINDS, TEMPLATES, new_data, new_model
from pipeline.config import search_path
from pipeline.config.checks.check_config import check_config
from pipeline.config.compose import compose
from pipeline.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of each kind and a network."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for kind in KINDS:
            new_data([f"name=my_{kind}", f"kind={kind}"])
        new_model(["name=my_net"])
    return folder


def run(*command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_what_is_written_passes_its_own_tests_at_once(project: Path) -> None:
    pytest.importorskip("tokenizers")
    done = run("pytest", "-q", "-p", "no:cacheprovider", folder=project)
    assert done.returncode == 0, done.stdout
    assert f"{4 * (len(KINDS) + 1)} passed" in done.stdout


def test_it_has_the_layout_that_the_checkout_asks_for(project: Path) -> None:
    settings = f"--config={ROOT / 'pyproject.toml'}"
    for command in (["check", "--config", "lint.isort.known-first-party=['pipeline']"], ["format", "--check"]):
        done = run("ruff", command[0], settings, "--no-cache", *command[1:], ".", folder=project)
        assert done.returncode == 0, done.stdout


def test_the_options_compose_together(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(project)  # as the command line does with the working directory
    for kind in KINDS:
        composed = compose([f"data=my_{kind}", "model=my_net"])
        check_config(composed.config, composed.shipped)
        assert list(composed.config.allow_packages) == ["my_package"]
    assert all(search_path.first_comment(path) for path in project.glob("conf/*/*.yaml"))


def test_every_kind_has_its_templates() -> None:
    assert [kind for kind in KINDS if not (TEMPLATES / f"data_{kind}.py.txt").exists()] == []
    assert [kind for kind in KINDS if not (TEMPLATES / f"data_{kind}.yaml.txt").exists()] == []


def test_a_name_that_the_code_uses_itself_gets_a_class_beside_it(empty_folder: Path) -> None:
    new_data(["name=split", "kind=image"])
    assert "class OwnSplit:" in Path("my_package/split.py").read_text()
    assert "_target_: my_package.split.OwnSplit" in Path("conf/data/split.yaml").read_text()


def test_nothing_is_written_over_and_nothing_written_beside_it(empty_folder: Path) -> None:
    mine = Path("tests/test_my_net.py")
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(ConfigError, match=r"tests/test_my_net.py: there already, .*\n  such as  name=my_net_2"):
        new_model(["name=my_net"])
    assert contents(empty_folder) == {"tests/test_my_net.py": "mine"}


def test_a_project_keeps_the_package_that_it_has(empty_folder: Path) -> None:
    new_model(["name=one", "package=weather"])
    own = Path("conf/allow_packages.yaml").read_text()
    new_model(["name=two"])
    assert Path("weather/two.py").exists() and Path("conf/allow_packages.yaml").read_text() == own
    with pytest.raises(ConfigError, match=r"add it to conf/allow_packages.yaml, or use package=weather"):
        new_model(["name=three", "package=other"])


@pytest.mark.parametrize(
    "name, fitting",
    [("MyNet", "my_net"), ("my net", "my_net"), ("3d", "my_3d"), ("class", "my_class"), ("_x", "x"), ("../x", "x"),
     ("é", "my_net"), ("cnn", "my_cnn")],
)  # fmt: skip
def test_a_name_that_will_not_do_is_refused_with_one_that_will(name: str, fitting: str, empty_folder: Path) -> None:
    with pytest.raises(ConfigError, match=rf"\n  such as  name={fitting}$"):
        new_model([f"name={name}"])
    assert contents(empty_folder) == {}
    new_model([f"name={fitting}"])


@pytest.mark.parametrize("words", [[], ["kind=sound"]])
def test_a_kind_that_does_not_exist_is_refused_with_those_that_do(words: list[str], empty_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"kind=.*: expected image, audio, table, text.*; such as pipeline new-data"):
        new_data(["name=x", *words])
