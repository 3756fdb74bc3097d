"""What a checkpoint tells of how far a run has been trained, whoever made it and whatever it holds."""

import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline.runs.checkpoint_progress import MAX_PICKLE_BYTES, CheckpointProgress, read_checkpoint_progress

GOOD = {"epoch": 2, "global_step": 20, "callbacks": {"Checkpointing": {"is_over": False}}}
LIMIT = 1 << 30  # bytes of memory


def command(folder: Path) -> list[str]:
    """What prints how far the run is."""
    program = (
        "import sys, pathlib; from pipeline.runs.checkpoint_progress import read_checkpoint_progress\n"
        "print(read_checkpoint_progress(pathlib.Path(sys.argv[1])))"
    )
    return [sys.executable, "-c", program, str(folder)]


def archive(path: Path, structure: bytes, *, times: int = 1) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as found, found.open("archive/data.pkl", "w") as file:
        for _ in range(times):
            file.write(structure)


def test_a_checkpoint_tells_epochs_and_steps(tmp_path: Path) -> None:
    archive(tmp_path / "step-00000020.ckpt", pickle.dumps(GOOD, protocol=2))
    assert read_checkpoint_progress(tmp_path) == CheckpointProgress(2, 20, is_over=False)


ROWS = {
    "a structure without end": (b"\0" * (1 << 20), 1 << 10),  # a GiB, in a MB
    "one that stands behind a good one": (
        pickle.dumps(GOOD, protocol=2) + bytes(1 << 20),
        2 * (MAX_PICKLE_BYTES >> 20),
    ),
    "a place far out in the memo": (b"Nr" + struct.pack("<I", 0x7FFFFFFF) + b".", 1),
    "an array of eight GiB": (b"\x96" + struct.pack("<Q", 8 << 30) + b".", 1),
    "a text of eight GiB": (b"\x8d" + struct.pack("<Q", 8 << 30) + b".", 1),
    "lists within lists": (b"]" * 500_000 + b"a" * 499_999 + b".", 1),
}


@pytest.mark.parametrize("what", ROWS)
def test_a_checkpoint_made_to_fill_the_memory_is_skipped(tmp_path: Path, what: str) -> None:
    structure, times = ROWS[what]
    archive(tmp_path / "step-00000030.ckpt", structure, times=times)
    archive(tmp_path / "step-00000020.ckpt", pickle.dumps(GOOD, protocol=2))
    ended = subprocess.run(
        command(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT)),
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.startswith("CheckpointProgress(epochs=2, steps=20")


@pytest.mark.parametrize("what", ["a pipe", "a link out of the run"])
def test_a_checkpoint_that_is_no_file_of_the_run_is_skipped(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    archive(folder / "step-00000020.ckpt", pickle.dumps(GOOD, protocol=2))
    if what == "a pipe":
        os.mkfifo(folder / "step-00000030.ckpt")
    else:
        archive(tmp_path / "other.ckpt", pickle.dumps({**GOOD, "global_step": 30}, protocol=2))
        (folder / "step-00000030.ckpt").symlink_to(tmp_path / "other.ckpt")
    ended = subprocess.run(command(folder), capture_output=True, text=True, check=False, timeout=60)
    assert "steps=20" in ended.stdout, ended.stderr
