"""The test figures again, from the run directory alone."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RunError
from pipeline.lifecycle import evaluate_run
from pipeline.runs.run_directory import Run


@pytest.fixture(scope="module")
def moved(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory and nothing else, under another name somewhere else."""
    folder = tmp_path_factory.mktemp("else") / "moved here"
    shutil.copytree(finished.folder, folder, symlinks=True)
    return folder


def test_they_are_the_same_to_the_last_digit(finished: Any, moved: Path) -> None:
    assert evaluate_run.test_run(Run(moved)).metrics == finished.result["metrics"]


def test_a_copy_of_the_directory_elsewhere_is_enough(program: Any, finished: Any, moved: Path, tmp_path: Path) -> None:
    before = (moved / "result.json").read_text()
    ended = program.run(tmp_path / "nowhere", "evaluate", f"run={moved}")
    assert ended.code == 0 and ended.err == ""
    rows = [line.split() for line in ended.out.splitlines() if "test/" in line]
    figures = {row[0]: (row[2], row[4]) for row in rows}
    assert figures == {name: (f"{value:.4f}",) * 2 for name, value in finished.result["metrics"].items()}
    assert (moved / "result.json").read_text() == before


def test_weights_that_were_altered_are_not_judged(finished: Any, tmp_path: Path) -> None:
    folder = finished.copied_to(tmp_path)
    best = folder / finished.result["best_checkpoint"]
    content = bytearray(best.read_bytes())
    content[len(content) // 2] ^= 1
    best.write_bytes(content)
    with pytest.raises(RunError, match=rf"{best.name} is truncated or altered: its SHA-256"):
        evaluate_run.test_run(Run(folder))


def test_a_run_that_never_saved_anything_is_told_how_to_go_on(finished: Any, tmp_path: Path) -> None:
    folder = finished.copied_to(tmp_path)
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(RunError, match=f"has no checkpoint .* pipeline resume run={folder.name}"):
        evaluate_run.test_run(Run(folder))
