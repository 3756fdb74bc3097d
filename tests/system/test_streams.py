"""Output that nobody reads any more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.system import streams
from pipeline.system.streams import broken_pipe_safe_output


def run_without_reader(*words: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """`pipeline WORDS | true`, with a reader that has gone before the first byte."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-m", "pipeline", *words]
        return subprocess.run(command, cwd=folder, stdout=writing, stderr=subprocess.PIPE, timeout=180, check=False)
    finally:
        os.close(writing)


def test_a_reader_that_has_seen_enough_of_a_listing_is_no_error(tmp_path: Path) -> None:
    ended = run_without_reader("train", "--info", folder=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_run_whose_output_nobody_reads_is_trained_to_its_end(tmp_path: Path) -> None:
    small = ["model=softmax_regression", "trainer.max_steps=2", "tracking=none", "callbacks=none"]
    ended = run_without_reader("train", *small, folder=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert (tmp_path / "runs/latest/result.json").exists()


def test_a_program_without_output_streams_prints_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with broken_pipe_safe_output():
        print("unheard", flush=True)
        assert sys.stdout.writable()


@pytest.mark.parametrize(
    "text, shown",
    [
        ("one\ttwo\n", "one\ttwo\n"),
        ("\x1b[1;31mred\x1b[0m\r", "\x1b[1;31mred\x1b[0m\r"),  # ours
        ("\x1b[2K\x1b[1A\x1b[?25l\x1b[?25h", "\x1b[2K\x1b[1A\x1b[?25l\x1b[?25h"),  # Rich's, of a bar that moves
        ("\x1b]0;title\x07", "�]0;title�"),
        ("\x1b]52;c;aGk=\x07", "�]52;c;aGk=�"),  # into the clipboard
        ("\x1b[2J\x1b[5n\x1bc\x9b6n", "�[2J�[5n�c�6n"),
        ("abc‮txt.exe", "abc�txt.exe"),
        ("\ud800", "�"),
    ],
)
def test_a_terminal_is_told_nothing_but_colours_and_lines(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with streams.broken_pipe_safe_output():
        print(text, end="")
    assert capsys.readouterr().out == shown


def test_a_message_has_no_colours_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    streams.print_labelled("error", "\x1b[31mred\x1b[0m", sys.stdout)
    assert capsys.readouterr().out == "error: �[31mred�[0m\n"
