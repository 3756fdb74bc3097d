"""One message and one exit code for each kind of end."""

import errno
import signal
from collections.abc import Callable

import pytest

from pipeline.errors import ConfigError, DataError, RunError, TrainingFailed
from pipeline.lifecycle import exits
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
def test_what_is_foreseen_ends_in_one_message(
    problem: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exits.code_of(raising(problem)) == code
    assert capsys.readouterr().err == said


def test_nothing_wrong_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert exits.code_of(lambda: None) == 0
    assert capsys.readouterr().err == ""


def test_what_nobody_foresaw_shows_where_it_happened(capsys: pytest.CaptureFixture[str]) -> None:
    assert exits.code_of(raising(ZeroDivisionError("by nothing"))) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said and "ZeroDivisionError: by nothing" in said and "in work" in said


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_recognised_however_deep(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    deep = RuntimeError("unexpected pos 64 vs 0")
    deep.__cause__ = ValueError("wrapped")
    deep.__cause__.__context__ = OSError(number, "No space left")
    assert exits.code_of(raising(deep)) == 1
    said = capsys.readouterr().err
    assert said.startswith("failed: the disk is full") and "what was saved before stands" in said
    assert "Traceback" not in said


def test_brackets_in_a_message_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    exits.code_of(raising(ConfigError("use [bold]callbacks=[default,ema][/bold] or [/]")))
    assert capsys.readouterr().err == "error: use [bold]callbacks=[default,ema][/bold] or [/]\n"
