"""docs/your-own-model.md, command by command, in a folder that is empty at first."""

import json
from pathlib import Path

import pytest
from tests.end_to_end.pages import commands_of, run

COMMANDS = commands_of("your-own-model.md")
FIRST_RUN = COMMANDS[: COMMANDS.index("pipeline report run=latest") + 1]
REST = COMMANDS[len(FIRST_RUN) :]


def follow(commands: list[str], folder: Path) -> Path:
    """Types one after the other; the folder in which that ends."""
    for command in commands:
        match command.split():
            case ["mkdir", name]:
                (folder / name).mkdir()
            case ["cd", name]:
                folder = folder / name
            case _:
                done = run(command, cwd=folder)
                assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return folder


def test_the_page_leads_from_nothing_to_a_tracked_run(tmp_path: Path) -> None:
    project = follow(FIRST_RUN, tmp_path)
    latest = project / "runs/latest"
    assert json.loads((latest / "result.json").read_text())["metrics"]["test/accuracy"] > 0.9
    assert (latest / "report.html").exists() and (project / "runs/mlflow.db").exists()


@pytest.mark.slow
def test_all_that_comes_after_it_works_too(tmp_path: Path) -> None:
    project = follow([*FIRST_RUN[:3], *REST], tmp_path)
    written = {path.name for path in project.glob("my_package/*.py")}
    assert written == {"__init__.py", "my_net.py", "my_pictures.py"}
    assert len(list(project.glob("runs/2*/result.json"))) >= 2
