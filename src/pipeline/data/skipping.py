"""Samples that cannot be used: they end the run, or are left out of it and listed."""

import logging
from collections.abc import Sequence
from typing import Literal

from pipeline.errors import DataError

NAMED = 5  # that are told at once

OnBadSample = Literal["fail", "skip"]
log = logging.getLogger(__name__)


def left_out(bad: Sequence[str], *, on_bad_sample: OnBadSample, of: int, what: str) -> tuple[str, ...]:
    """`bad` (a line for each: which and why, of as many `what`) as Parts.skipped takes them.

    Raises DataError with the first of them where nothing is to be left out.
    """
    if not bad:
        return ()
    more = f"\n  and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    named = "".join(f"\n  {line}" for line in bad[:NAMED]) + more
    if on_bad_sample == "fail":
        raise DataError(
            f"{len(bad)} of {of} {what} cannot be used:{named}\n"
            "Correct them or take them away, or leave them out: data.source.on_bad_sample=skip"
        )
    log.warning(f"left out {len(bad)} of {of} {what}; all of them stand in skipped.txt in the run directory:{named}")
    return tuple(bad)
