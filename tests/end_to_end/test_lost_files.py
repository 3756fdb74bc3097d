"""A file system that goes away under a run: mounted and unmounted in a name space of its own."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

LOSE = """
import subprocess
import pytorch_lightning as pl

class Lose(pl.Callback):
    def on_validation_end(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            subprocess.run(["umount", "-l", "runs"], check=True)
"""
ON_A_DISK_OF_ITS_OWN = """
mkdir -p runs && mount -t tmpfs none runs || exit 99
"$@"
"""


def run_on(program: Any, home: Path) -> subprocess.CompletedProcess[str]:
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode != 0:
        pytest.skip("needs Linux, and leave to mount a file system of one's own")
    (home / "mine.py").write_text(LOSE)
    own = ("allow_packages=[mine]", "+callbacks.lose={_target_: mine.Lose}")
    command = [*unshare, "sh", "-c", ON_A_DISK_OF_ITS_OWN, "sh", program.PATH, "train", *program.SMALL, *own]
    return subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=180, check=False)


@pytest.mark.slow
def test_the_run_says_that_it_is_lost_and_how_to_go_on(program: Any, tmp_path: Path) -> None:
    done = run_on(program, tmp_path)
    assert done.returncode == 1
    assert "is lost" in done.stderr and "pipeline resume run=" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
