"""Samples that cannot be used: they end the run, or are left out of it and listed."""

import errno
import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pipeline.errors import DataError

MAX_LISTED = 5  # that are told at once

OnBadSample = Literal["fail", "skip"]
log = logging.getLogger(__name__)

NON_FILES = {stat.S_ISDIR: "is a folder", stat.S_ISFIFO: "is a pipe", stat.S_ISSOCK: "is a socket"}


def file_problem(path: Path) -> str | None:
    """Return why a path is not a readable file, or None; nothing is opened, because a pipe would wait for a writer."""
    try:
        mode = path.stat().st_mode
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            return "is a link to itself"
        if problem.errno == errno.ENOENT:
            return "is a link to nothing" if path.is_symlink() else "does not exist"
        return f"cannot be read: {problem.strerror}"
    except ValueError as problem:  # a NUL in the name
        return f"is no name of a file: {problem}"
    if not stat.S_ISREG(mode):
        return next((words for holds, words in NON_FILES.items() if holds(mode)), "is a device")
    return None if os.access(path, os.R_OK) else "cannot be read: Permission denied"


def escape_unprintable(text: str) -> str:
    """Escape what is not printable: a file's name may hold line ends, control characters, bytes that are not UTF-8."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def skip_or_fail(bad: Sequence[str], *, on_bad_sample: OnBadSample, of: int, what: str) -> tuple[str, ...]:
    """Return the lines of `bad` for Splits.skipped and warn of them; each says which sample it is and why.

    Raises DataError with the first of them where on_bad_sample=fail.
    """
    if not bad:
        return ()
    bad = [escape_unprintable(line) for line in bad]
    more = f"\n  and {len(bad) - MAX_LISTED} more" if len(bad) > MAX_LISTED else ""
    named = "".join(f"\n  {line}" for line in bad[:MAX_LISTED]) + more
    if on_bad_sample == "fail":
        raise DataError(
            f"{len(bad)} of {of} {what} cannot be used:{named}\n"
            "Correct them or take them away, or leave them out: data.source.on_bad_sample=skip"
        )
    log.warning(f"left out {len(bad)} of {of} {what}; all of them stand in skipped.txt in the run directory:{named}")
    return tuple(bad)
