"""A user's mistakes: exit 2, what was found, what was expected, what to type; nothing is left and nothing touched."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

# What is typed after `pipeline`, and words that the message must have: the finding, the expectation, the remedy.
REFUSED = {
    "train model=nlp": ["model=nlp", "did you mean", "model=mlp"],
    "train modle=mlp": ["modle", "did you mean", "model"],
    "train optimizer.learning_rat=0.1": ["optimizer.learning_rat", "did you mean", "optimizer.learning_rate"],
    "train optimizer.learning_rate=abc": ["optimizer.learning_rate=abc", "expected a number", "0.01"],
    "train model._target_=pipeline.models.cnn.CNM": ["CNM does not exist", "did you mean", "pipeline.models.cnn.CNN"],
    "train model._target_=subprocess.Popen": ["subprocess.Popen", "not in a package", "to allow it"],
    "train +model.width=3": ["model.width", "did you mean", "model.widths"],
    "train name=a/b": ["name=a/b", "letters", "name=a-b"],
    "train 'name=my run'": ["name=", "my run", "my-run"],
    "train data.batch_size=0": ["data.batch_size=0", "expected a whole number from 1", "the default 128"],
    "train data.train_fraction=0": ["data.train_fraction=0", "above 0 and to 1", "the default 1.0"],
    "train data=image_folder": ["data.root has no default", "one folder a class", "data.root=animals"],
    "train trainer.max_epochs=null": ["both unset", "trainer.max_epochs=10"],
    "train trainer.devices=3": ["data.batch_size=128", "3 processes", "129"],
    "train --epochs 3": ["--epochs", "no option of train"],
    "trian": ["no verb trian", "did you mean", "pipeline train"],
    "evaluate run=cnn-mnist5k-0000": ["run=cnn-mnist5k-0000", "did you mean", "run=latest"],
    "evaluate rum=latest": ["rum=latest", "did you mean", "run="],
    "resume run=nothing": ["run=nothing", "did you mean", "run=latest"],
}


@pytest.fixture(scope="module")
def refusals(program: Any, finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """How each ended; all in one directory with one finished run in it."""
    root = tmp_path_factory.mktemp("refused")
    finished.copied_to(root)
    before = everything_in(root)
    jobs = {typed: lambda typed=typed: program.run(root, *shlex.split(typed)) for typed in REFUSED}
    return program.side_by_side(jobs), before, everything_in(root)


def everything_in(root: Path) -> dict[str, float]:
    return {str(path.relative_to(root)): path.lstat().st_mtime for path in root.rglob("*")}


@pytest.mark.parametrize("typed", REFUSED)
def test_it_says_what_was_found_and_expected_and_what_to_type(refusals: Any, typed: str) -> None:
    ended = refusals[0][typed]
    assert ended.code == 2
    assert ended.out == "" and "Traceback" not in ended.err
    assert ended.err.startswith("error: ") and len(ended.err) < 1500
    assert [words for words in REFUSED[typed] if words not in ended.err] == []


def test_nothing_is_left_behind_and_latest_stays_where_it_was(refusals: Any) -> None:
    _, before, after = refusals
    assert after == before


def test_evaluate_in_an_empty_folder_says_how_to_make_a_run(program: Any, tmp_path: Path) -> None:
    ended = program.run(tmp_path / "empty", "evaluate")
    assert ended.code == 2
    assert "there is no run in" in ended.err and "train` makes one" in ended.err
    assert list((tmp_path / "empty").iterdir()) == []


class TestAPlaceThatCannotBeWrittenTo:
    def test_such_as_one_below_a_file(self, program: Any, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("kept")
        ended = program.run(tmp_path, "train", f"runs_dir={tmp_path}/file/runs")
        assert ended.code == 2 and ended.out == ""
        assert f"cannot write a run directory in {tmp_path}/file/runs" in ended.err
        assert "runs_dir=PATH" in ended.err
        assert (tmp_path / "file").read_text() == "kept"

    def test_such_as_one_without_permission(self, program: Any, tmp_path: Path) -> None:
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o555)
        command = [*as_an_ordinary_user(program), program.PATH, "train", f"runs_dir={locked}/runs"]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2 and done.stdout == ""
        assert "Permission denied" in done.stderr and "runs_dir=PATH" in done.stderr
        assert list(locked.iterdir()) == []


def as_an_ordinary_user(program: Any) -> list[str]:
    """Root may write anywhere: what comes before a command that another user is to run."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write anywhere, and there is no setpriv to be another user")
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*command, program.PATH, "version"], cwd="/", capture_output=True, check=False).returncode != 0:
        pytest.skip("root may write anywhere, and other users cannot run what is installed here")
    return command
