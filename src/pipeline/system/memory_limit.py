"""How much memory is left to this process."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

GROUPS = Path("/sys/fs/cgroup")
OF_THIS_PROCESS = Path("/proc/self/cgroup")


class Names(NamedTuple):
    """Of the files that a control group has."""

    limit: str
    used: str
    reclaimable: str  # a line of memory.stat: what was read from files and can be read again


OLDER = Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
NEWER = Names("memory.max", "memory.current", "inactive_file")


def free_bytes() -> int:
    """The machine's, or what a container or a job of this process may still take, whichever is less."""
    return min([psutil.virtual_memory().available, *_left_in_groups()])


def _left_in_groups() -> Iterator[int]:
    """In each control group that this process is in (https://docs.kernel.org/admin-guide/cgroup-v2.html)."""
    try:
        lines = OF_THIS_PROCESS.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        names = OLDER if "memory" in controllers.split(",") else NEWER if not controllers else None
        if names is None:
            continue
        root = GROUPS / "memory" if names is OLDER else GROUPS
        group = root / path.lstrip("/")
        # Inside a container the path may be one of the host's: then its own group is the root.
        for folder in [group, *(each for each in group.parents if each.is_relative_to(root))]:
            left = left_in(folder, names)
            if left is not None:
                yield left


def left_in(group: Path, names: Names) -> int | None:
    """Bytes; None where the group has no limit, or is not to be seen."""
    try:
        limit = (group / names.limit).read_text().strip()
        used = int((group / names.used).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    if limit == "max":
        return None
    return max(int(limit) - used + int(stat.get(names.reclaimable, 0)), 0)
