"""Whoever errs is told at once: in tenths of a second, before torch is imported, and nothing is left behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.mistakes import MISTAKES

MAKE_ALL = """
import contextlib, io, json, shlex, sys
from pipeline.cli import main
answers = []
for line in json.load(sys.stdin):
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = main(shlex.split(line))
    answers.append([line, code, "torch" in sys.modules, errors.getvalue()])
    if code != 2 or "torch" in sys.modules:
        break
json.dump(answers, sys.stdout)
"""


def made(mistakes: list[str], folder: Path) -> list[tuple[str, int, bool, str]]:
    """(mistake, exit code, torch is imported, what was said) of each, up to the first that is not refused early."""
    answer = subprocess.run(
        [sys.executable, "-c", MAKE_ALL],
        input=json.dumps(mistakes),
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=600,
        check=True,
    )
    found: list[tuple[str, int, bool, str]] = json.loads(answer.stdout)
    return found


def check_all(mistakes: list[str], folder: Path) -> None:
    for line, code, torch_is_there, said in made(mistakes, folder):
        assert (line, code, torch_is_there) == (line, 2, False), said
        assert said.startswith("error: ") and "Traceback" not in said, line
    assert list(folder.iterdir()) == []


def test_some_mistakes_of_each_kind_are_refused_before_torch(tmp_path: Path) -> None:
    check_all(MISTAKES[::12], tmp_path)


@pytest.mark.slow
def test_all_mistakes_are_refused_before_torch(tmp_path: Path) -> None:
    check_all(MISTAKES, tmp_path)


HEAVY = """
import shlex, sys
from pipeline.cli import main
assert main(shlex.split(sys.argv[1])) == 2
print(*{"torch", "numpy", "optuna", "mlflow", "pytorch_lightning"} & sys.modules.keys())
"""


@pytest.mark.parametrize(
    "line, said",
    [
        ("compare runs=nosuch,nother", "runs=nosuch"),
        ("search show nosuch", "there is no search"),
        ("search list", "there is no search"),
        ("search dashboard nosuch", "there is no search"),
        ("report run=nosuch", "run=nosuch"),
        ("register run=nosuch name=x", "run=nosuch"),
    ],
)
def test_what_is_not_there_is_missed_before_anything_heavy_is_imported(line: str, said: str, tmp_path: Path) -> None:
    answer = subprocess.run([sys.executable, "-c", HEAVY, line], capture_output=True, text=True, cwd=tmp_path)
    assert answer.stdout.split() == [] and said in answer.stderr, answer.stderr


def test_a_search_looks_at_a_table_as_train_does(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,y\n1,2\n")
    line = "search data=table model=mlp data.root=t.csv data.source.target=nope seed=0,1"
    answer = subprocess.run([sys.executable, "-c", HEAVY, line], capture_output=True, text=True, cwd=tmp_path)
    assert "t.csv has no column nope" in answer.stderr and "torch" not in answer.stdout.split()
    assert not (tmp_path / "runs").exists()
