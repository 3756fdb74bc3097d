"""One message and one exit code for each kind of end."""

import errno
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.errors import ConfigError, DataError, RunError, TrainingFailed
from pipeline.lifecycle import exit_codes
from pipeline.training.interruption import Interrupted


def raising(problem: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise problem

    return work


@pytest.mark.parametrize(
    "problem, code, said",
    [
        (ConfigError("no such key"), 2, "error: no such key\n"),
        (DataError("no such file"), 2, "error: no such file\n"),
        (RunError("no such run"), 2, "error: no such run\n"),
        (TrainingFailed("the loss is nan at step 3"), 1, "failed: the loss is nan at step 3\n"),
        (Interrupted(signal.SIGINT, "step-1.ckpt"), 130, ""),
        (Interrupted(signal.SIGTERM, "step-1.ckpt"), 75, ""),
        (Interrupted(signal.SIGUSR1, None), 75, ""),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_expected_error_ends_in_one_message(
    problem: BaseException, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_codes.run_to_exit_code(raising(problem), tmp_path) == code
    assert capsys.readouterr().err == said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run."""
    (tmp_path / "config.yaml").touch()
    return tmp_path


def test_success_has_the_exit_code_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_codes.run_to_exit_code(lambda: None, folder) == 0
    assert capsys.readouterr().err == ""


def test_an_unexpected_error_shows_its_traceback(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_codes.run_to_exit_code(raising(ZeroDivisionError("by nothing")), folder) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said and "ZeroDivisionError: by nothing" in said and "in work" in said


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_recognised_however_deep(number: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = RuntimeError("unexpected pos 64 vs 0")
    deep.__cause__ = ValueError("wrapped")
    deep.__cause__.__context__ = OSError(number, "No space left")
    assert exit_codes.run_to_exit_code(raising(deep), folder) == 1
    said = capsys.readouterr().err
    assert said.startswith("failed: the disk is full") and "what was saved before stands" in said
    assert "Traceback" not in said


def test_brackets_in_a_message_are_printed_as_they_are(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exit_codes.run_to_exit_code(raising(ConfigError("use [bold]callbacks=[default,ema][/bold] or [/]")), folder)
    assert capsys.readouterr().err == "error: use [bold]callbacks=[default,ema][/bold] or [/]\n"


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EROFS])
def test_a_lost_file_system_is_answered_with_the_command_to_resume(
    number: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_codes.run_to_exit_code(raising(OSError(number, "gone")), folder) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"failed: the file system of {folder} is lost") and "Traceback" not in said
    assert f"pipeline resume run={folder}" in said


def test_a_run_directory_that_is_gone_is_a_lost_file_system(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_codes.run_to_exit_code((tmp_path / "gone/file").read_text, tmp_path / "gone") == 1
    assert "is lost" in capsys.readouterr().err


def test_a_missing_file_elsewhere_is_no_lost_file_system(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_codes.run_to_exit_code((folder / "file").read_text, folder) == 1
    assert "Traceback" in capsys.readouterr().err


def test_out_of_memory_is_answered_with_its_remedies(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_codes.run_to_exit_code(lambda: [torch.empty(2**50)].clear(), folder) == 1
    said = capsys.readouterr().err
    assert said.startswith("failed: out of memory") and "Traceback" not in said
    assert "data.batch_size" in said and "batch.on_out_of_memory=halve" in said


def test_one_sample_for_batch_norm_is_answered_with_what_to_type(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    normed = torch.nn.BatchNorm1d(3)
    assert exit_codes.run_to_exit_code(lambda: print(normed(torch.zeros(1, 3))), folder) == 1
    said = capsys.readouterr().err
    assert said.startswith("failed: batch norm was given one sample") and "drop_last=True" in said
    assert "Traceback" not in said
