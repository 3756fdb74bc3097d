"""What a shell, a container or another program may have left around the command: it works, or says what is wrong."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main

ROWS = {  # what is typed in a shell, its exit code, and words that it prints
    "a working directory that was deleted": ("rmdir ../home; {pipeline} train", 2, "working directory"),
    "the same, for a list of runs": ("rmdir ../home; {pipeline} runs", 2, 'cd "$PWD"'),
    "warnings that are errors": ("PYTHONWARNINGS=error {pipeline} train --info", 0, "optimizer"),
    "no docstrings and no asserts": ("PYTHONOPTIMIZE=2 {pipeline} train --info", 0, "augmentation"),
    "no output": ("{pipeline} train --info >&-", 0, ""),
    "no input": ("{pipeline} version <&-", 0, "pipeline"),
    "a terminal of one column": ("COLUMNS=1 {pipeline} train --help", 0, "train"),
    "no home": ("env -u HOME {pipeline} train --info", 0, "optimizer"),
    "a home that is not there": ("HOME=/nonexistent {pipeline} train --info", 0, "optimizer"),
    "no folder for what is temporary": ("TMPDIR=/nonexistent {pipeline} train --info", 0, "optimizer"),
    "a language without umlauts": ("LC_ALL=C {pipeline} train name=ü", 2, "error: "),
    "half of what torchrun sets": ("RANK=x {pipeline} train --info", 0, "optimizer"),
    "what torchrun left": (
        "RANK=0 WORLD_SIZE=2 MASTER_ADDR=localhost MASTER_PORT=29500 {pipeline} train",
        2,
        "unset RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT",
    ),
    "a rank beyond the world": ("RANK=2 WORLD_SIZE=2 {pipeline} train", 2, "RANK=2"),
}


@pytest.mark.parametrize("around", ROWS)
def test_it_works_or_says_what_is_wrong(program: Any, tmp_path: Path, around: str) -> None:
    script, code, words = ROWS[around]
    (tmp_path / "home").mkdir()
    ended = program.shell(tmp_path / "home", script.format(pipeline=shlex.quote(program.PATH)))
    assert ended.code == code, ended.err
    assert words in ended.out + ended.err and "Traceback" not in ended.out + ended.err
    assert not (tmp_path / "home" / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{"PYTHONWARNINGS": "error"}, {"WORLD_SIZE": "1"}, {"TMPDIR": "/nonexistent"}])
def test_it_trains_and_ends(program: Any, tmp_path: Path, variables: dict[str, str]) -> None:
    ended = program.run(tmp_path / "home", "train", *program.SMALL, "trainer.max_epochs=1", **variables)
    assert ended.code == 0 and "Traceback" not in ended.err, ended.err


def test_a_strict_umask_is_kept(program: Any, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    command = shlex.join([program.PATH, "train", "launch=slurm", "launch.dry_run=true", "data.root=/nowhere"])
    ended = program.shell(tmp_path / "home", f"umask 077; {command}")
    assert ended.code == 0, ended.err
    (run_dir,) = program.runs_in(tmp_path / "home")
    assert run_dir.stat().st_mode & 0o077 == 0


def test_runs_behind_a_link_are_runs_like_any_other(program: Any, tmp_path: Path) -> None:
    home, small = tmp_path / "home", ("data=iris", "model=mlp", "model.widths=[4]", "trainer.max_epochs=2")
    (home / "elsewhere").mkdir(parents=True)
    (home / "link").symlink_to("elsewhere")
    place = f"runs_dir={home}/link/runs"
    ended = program.run(home, "train", *small, place)
    assert ended.code == 0, ended.out + ended.err
    (folder,) = (home / "elsewhere/runs").glob("2*")
    result = program.result(folder)
    assert result["status"] == "FINISHED" and (folder / result["best_checkpoint"]).exists()
    longer = program.run(home, "resume", place, "trainer.max_epochs=4", "checkpoint.keep=1")
    assert longer.code == 0, longer.out + longer.err
    result = program.result(folder)
    assert (folder / result["best_checkpoint"]).samefile(folder / "checkpoints/best.ckpt")
    assert program.run(home, "evaluate", place).code == 0


LEFT = [
    {"RANK": "", "LOCAL_RANK": ""},
    {"RANK": "x"},
    {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1"},
    {"SLURM_PROCID": "one"},
    {"JSM_NAMESPACE_RANK": "x"},
]
LIGHTNING = """
from pipeline.cli import main
assert main(["evaluate", "run=nosuch"]) == 2
from lightning_fabric.utilities.rank_zero import rank_zero_only
assert rank_zero_only.rank == 0
"""


@pytest.mark.parametrize("variables", LEFT)
def test_what_works_in_one_process_leaves_nothing_for_lightning_to_read(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["evaluate", "run=nosuch"]) == 2
    assert variables.keys().isdisjoint(os.environ)


def test_lightning_takes_a_process_that_works_alone_for_the_first(tmp_path: Path) -> None:
    command, environment = [sys.executable, "-c", LIGHTNING], os.environ | LEFT[2]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
@pytest.mark.cold  # Lightning reads these when it is imported
@pytest.mark.parametrize("variables", LEFT)
def test_and_judges_a_run(program: Any, finished: Any, tmp_path: Path, variables: dict[str, str]) -> None:
    folder = finished.copied_to(tmp_path / "home")
    ended = program.run(tmp_path / "home", "evaluate", f"run={folder}", **variables)
    assert ended.code == 0 and "Traceback" not in ended.err, ended.err


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["", "2,2", "x"])
def test_a_search_takes_any_number_of_threads(program: Any, tmp_path: Path, threads: str) -> None:
    typed = ["data=iris", "model=mlp", "trainer.max_epochs=1", "seed=0,1", "search.n_trials=2", "search.final_seeds=0"]
    ended = program.run(tmp_path / "home", "search", "name=s", *typed, "tracking=none", OMP_NUM_THREADS=threads)
    assert ended.code == 0, ended.out + ended.err
