"""Read how much memory this process may still use."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

CGROUP_ROOT = Path("/sys/fs/cgroup")
PROCESS_CGROUPS = Path("/proc/self/cgroup")


class CgroupFiles(NamedTuple):
    """The names of the files in a control group."""

    limit: str
    used: str
    reclaimable: str  # a line of memory.stat: what was read from files and can be read again


CGROUP_V1 = CgroupFiles("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
CGROUP_V2 = CgroupFiles("memory.max", "memory.current", "inactive_file")


def available_memory_bytes() -> int:
    """Return the free memory of the machine, or of this process's container or job if that is less."""
    return min([psutil.virtual_memory().available, *_left_in_groups()])


def _left_in_groups() -> Iterator[int]:
    """Yield what is left in each control group of this process (https://docs.kernel.org/admin-guide/cgroup-v2.html)."""
    try:
        lines = PROCESS_CGROUPS.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        names = CGROUP_V1 if "memory" in controllers.split(",") else CGROUP_V2 if not controllers else None
        if names is None:
            continue
        root = CGROUP_ROOT / "memory" if names is CGROUP_V1 else CGROUP_ROOT
        group = root / path.lstrip("/")
        # Inside a container the path may be one of the host's: then its own group is the root.
        for folder in [group, *(each for each in group.parents if each.is_relative_to(root))]:
            left = available_in_cgroup(folder, names)
            if left is not None:
                yield left


def available_in_cgroup(group: Path, names: CgroupFiles) -> int | None:
    """Return the bytes left in a control group; None if it has no limit or cannot be read."""
    try:
        limit = (group / names.limit).read_text().strip()
        used = int((group / names.used).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    if limit == "max":
        return None
    return max(int(limit) - used + int(stat.get(names.reclaimable, 0)), 0)
