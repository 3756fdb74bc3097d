"""Samples that cannot be used: they end the run, or the run leaves them out and lists them."""

import errno
import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pipeline.errors import DataError

MAX_LISTED = 5  # bad samples in a message

OnBadSample = Literal["fail", "skip"]
log = logging.getLogger(__name__)

NON_FILES = {stat.S_ISDIR: "is a folder", stat.S_ISFIFO: "is a pipe", stat.S_ISSOCK: "is a socket"}


def file_problem(path: Path) -> str | None:
    """Return why a path is not a readable file, or None. It opens nothing, because a pipe would wait for a writer."""
    try:
        mode = path.stat().st_mode
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            return "is a link to itself"
        if problem.errno == errno.ENOENT:
            return "is a link to nothing" if path.is_symlink() else "does not exist"
        return f"cannot be read: {problem.strerror}"
    except ValueError as problem:  # a NUL in the name
        return f"is not a file name: {problem}"
    if not stat.S_ISREG(mode):
        return next((text for is_kind, text in NON_FILES.items() if is_kind(mode)), "is a device")
    return None if os.access(path, os.R_OK) else "cannot be read: Permission denied"


def escape_unprintable(text: str) -> str:
    """Escape what is not printable: file names may have line ends, control characters, bytes that are not UTF-8."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def skip_or_fail(bad: Sequence[str], *, on_bad_sample: OnBadSample, of: int, what: str) -> tuple[str, ...]:
    """Return the lines about bad samples for Splits.skipped, with a warning.

    Raises DataError with the first lines where on_bad_sample=fail.
    """
    if not bad:
        return ()
    bad = [escape_unprintable(line) for line in bad]
    more = f"\n  and {len(bad) - MAX_LISTED} more" if len(bad) > MAX_LISTED else ""
    listed = "".join(f"\n  {line}" for line in bad[:MAX_LISTED]) + more
    if on_bad_sample == "fail":
        raise DataError(
            f"{len(bad)} of {of} {what} cannot be used:{listed}\n"
            "Correct or remove them, or leave them out: data.source.on_bad_sample=skip"
        )
    log.warning(f"left out {len(bad)} of {of} {what}; skipped.txt in the run directory lists them all:{listed}")
    return tuple(bad)
