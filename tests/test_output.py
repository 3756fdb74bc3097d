"""Output that nobody reads any more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.output import lasting_output


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
    with lasting_output():
        print("unheard", flush=True)
        assert sys.stdout.writable()
