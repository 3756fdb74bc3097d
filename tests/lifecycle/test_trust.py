"""What a run directory of another user's is answered with, before anything heavy is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.runs import run_directory as runs
from pipeline.system.process import module_command

CONFIG = """
name: theirs
allow_packages: [sympy]
data: {}
model: {}
trainer: {max_epochs: 1}
checkpoint: {monitor: val/loss, mode: min}
tracking: {uri: null, artifacts: null}
launch: {_target_: pipeline.launch.local.Local, hang_seconds: 10.0}
callbacks: {x: {_target_: sympy.sympify, a: "__import__('os').system('touch pwned')"}}
"""
REPORT_IMPORTS = "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules)); "


@pytest.fixture
def theirs(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run = runs.create_run_directory(name="theirs", runs_dir="runs")
    runs.fill_run_directory(run, config_yaml=CONFIG, overrides=[], environment={})
    run.update_latest_link()
    monkeypatch.setenv("XDG_STATE_HOME", str(empty_folder / "state"))
    return empty_folder


@pytest.mark.parametrize("verb", ["evaluate", "diagnose", "resume"])
def test_the_list_of_packages_in_another_users_run_allows_nothing(verb: str, theirs: Path) -> None:
    program = f"{REPORT_IMPORTS}from pipeline.cli import main; code = main([{verb!r}]); print(code)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "callbacks.x._target_=sympy.sympify is not in a package" in ended.stderr
    assert "to allow it  'allow_packages=[sympy]'" in ended.stderr
    assert ended.stdout.split() == ["2", "False"]
    assert not (theirs / "pwned").exists()


@pytest.mark.parametrize("verb", ["runs", "logs"])
def test_another_users_run_can_be_looked_at(verb: str, theirs: Path) -> None:
    command = module_command("pipeline", verb)
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert not (theirs / "pwned").exists()
