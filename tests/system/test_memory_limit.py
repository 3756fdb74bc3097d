"""What is left of the machine's memory, and of a container's."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.system.memory_limit import CGROUP_ROOT, CGROUP_V1, CGROUP_V2, available_in_cgroup, available_memory_bytes

MEGABYTE = 1 << 20
LIMIT = 512 * MEGABYTE
PROGRAM = "from pipeline.system.memory_limit import available_memory_bytes; print(available_memory_bytes())"


@pytest.fixture
def group() -> Iterator[Path]:
    """A real control group, with a limit."""
    older = (CGROUP_ROOT / "memory").is_dir()
    folder = CGROUP_ROOT / ("memory" if older else "") / f"pipeline-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / (CGROUP_V1 if older else CGROUP_V2).limit).write_text(str(LIMIT))
    except OSError as problem:
        if folder.is_dir():
            folder.rmdir()
        pytest.skip(f"no control group can be made here: {problem}")
    yield folder
    folder.rmdir()


def test_a_process_alone_has_no_more_than_the_machine() -> None:
    assert 0 < available_memory_bytes() <= psutil.virtual_memory().total


def test_a_process_in_a_container_has_what_its_limit_leaves(group: Path) -> None:
    enter = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group), sys.executable, "-c", PROGRAM]
    answer = subprocess.run(enter, capture_output=True, text=True, check=True)
    assert LIMIT / 2 < int(answer.stdout) < LIMIT


def test_what_was_read_from_files_counts_as_free(tmp_path: Path) -> None:
    (tmp_path / CGROUP_V2.limit).write_text("1000\n")
    (tmp_path / CGROUP_V2.used).write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 300\n")
    assert available_in_cgroup(tmp_path, CGROUP_V2) == 400


def test_a_group_without_a_limit_leaves_all(tmp_path: Path) -> None:
    (tmp_path / CGROUP_V2.limit).write_text("max\n")
    (tmp_path / CGROUP_V2.used).write_text("900\n")
    (tmp_path / "memory.stat").write_text("")
    assert available_in_cgroup(tmp_path, CGROUP_V2) is None
