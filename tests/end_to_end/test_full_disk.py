"""A disk that fills up: a file system of a few megabytes, in a name space of its own, for the runs."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.searches import RATE, SMALL, done, trials_in

# Each checkpoint of this network takes 3.2 MB.
LARGE = ("model=mlp", "model.widths=[320]", "callbacks=none", "trainer.max_epochs=3", "tracking=none")
IN_A_SMALL_DISK = """
mount -t tmpfs -o size={kilobytes}k none runs || exit 99
"$@"
code=$?
cp -a runs/. kept
exit $code
"""


def run_with_a_disk_of(kilobytes: int, program: Any, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What was in runs/ lies in kept/ afterwards."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode != 0:
        pytest.skip("needs Linux, and leave to mount a file system of one's own")
    (home / "runs").mkdir()
    (home / "kept").mkdir()
    script = IN_A_SMALL_DISK.format(kilobytes=kilobytes)
    command = [*unshare, "sh", "-c", script, "sh", program.PATH, *arguments]
    return subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=180, check=False)


def test_the_run_says_so_and_what_it_saved_stands(program: Any, tmp_path: Path) -> None:
    done = run_with_a_disk_of(5_000, program, tmp_path, "train", *LARGE)
    assert done.returncode == 1, done.stderr
    assert "failed: the disk is full" in done.stderr and "Traceback" not in done.stderr
    assert "pipeline resume run=" in done.stdout
    (run_dir,) = (path for path in (tmp_path / "kept").iterdir() if path.name != "latest")
    (saved,) = re.findall(r"stopped; (step-\d+\.ckpt) is saved", done.stdout)
    checkpoints = run_dir / "checkpoints"
    assert {path.name for path in checkpoints.iterdir()} >= {saved, f"{saved}.sha256", "last.ckpt"}
    check = subprocess.run(["sha256sum", "-c", f"{saved}.sha256"], cwd=checkpoints, capture_output=True, check=False)
    assert check.returncode == 0
    assert not list(checkpoints.glob(".*"))
    assert json.loads((run_dir / "result.json").read_text())["status"] == "FAILED"


@pytest.mark.slow
def test_a_disk_without_room_for_anything_is_told_as_well(program: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        """
import pytorch_lightning as pl

class Fill(pl.Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        with open("runs/filler", "wb", buffering=0) as file:
            while True:
                try:
                    file.write(bytes(512))
                except OSError:
                    break
"""
    )
    own = ("allow_packages=[mine]", "+callbacks.fill={_target_: mine.Fill}")
    done = run_with_a_disk_of(20_000, program, tmp_path, "train", *LARGE, *own)
    assert done.returncode == 1
    assert "the disk is full" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_search_says_so_and_goes_on_when_there_is_room(program: Any, tmp_path: Path) -> None:
    words = (*SMALL, RATE, "search.n_trials=12")
    done_here = run_with_a_disk_of(240, program, tmp_path, *words)
    assert done_here.returncode == 1 and "Traceback" not in done_here.stderr, done_here.stderr
    assert "is full; what was finished stands" in done_here.stderr and "pipeline search name=s" in done_here.stderr
    shutil.copytree(tmp_path / "kept", tmp_path / "runs", dirs_exist_ok=True)
    before = done(trials_in(tmp_path))
    assert 0 < len(before) < 12
    ended = program.run(tmp_path, "search", "name=s")
    assert ended.code == 0, ended.err
    after = done(trials_in(tmp_path))
    assert len(after) == 12 and [each.params for each in after[: len(before)]] == [each.params for each in before]
