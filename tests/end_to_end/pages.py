"""Pages of docs/ whose commands are run as they stand there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.fork_server import READ_EARLY

DOCS = Path(__file__).parents[2] / "docs"


def commands_of(page: str) -> list[str]:
    """What its blocks of sh say, line by line."""
    blocks = re.findall(r"```sh\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def run(command: str, *words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """`pipeline ...` or `python -m ...`, with `words` added to it."""
    program, *arguments = shlex.split(command)
    assert program in ("pipeline", "python")
    return subprocess.run(
        [sys.executable, *(["-m", "pipeline"] if program == "pipeline" else []), *arguments, *words],
        cwd=cwd,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(cwd),
            "XDG_CACHE_HOME": str(cwd / "cache"),
            **{name: value for name, value in os.environ.items() if READ_EARLY.match(name)},
        },
        capture_output=True,
        text=True,
        timeout=600,  # a search takes minutes where others want the processors, too
        check=False,
    )
