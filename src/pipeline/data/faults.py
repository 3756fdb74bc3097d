"""Samples that cannot be used, and samples that stand in two parts: named in the same words for every kind of data."""

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations
from typing import Literal

from pipeline.errors import DataError

NAMED = 5  # bad samples that are told by name

OnBadSample = Literal["fail", "skip"]
log = logging.getLogger(__name__)


def leave_out(bad: Sequence[str], count: int, what: str, on_bad_sample: OnBadSample) -> None:
    """`bad`: of `count` samples, called `what`, those that cannot be used, and why; warned of, or a DataError."""
    if not bad:
        return
    named = "".join(f"\n  {each}" for each in bad[:NAMED])
    more = f"\n  and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    if on_bad_sample == "fail":
        raise DataError(
            f"{len(bad)} of {count} {what} cannot be used:{named}{more}\n"
            "Mend them or take them away, or leave them out: data.source.on_bad_sample=skip"
        )
    log.warning(f"left out {len(bad)} of {count} {what}:{named}{more}")


def warn_of_copies(
    parts: Mapping[str, Sequence[Hashable]], what: str, name: Callable[[str, int], str] | None = None
) -> None:
    """A sample that is learned from and judged on alike makes the score too good.

    `parts`: of each, in the order train, validation, test, what tells a sample from others; `name`: what a sample of a
    part is called.
    """
    for one, other in combinations(parts, 2):
        seen = {sample: row for row, sample in enumerate(parts[one])}
        copies = [row for row, sample in enumerate(parts[other]) if sample in seen]
        if copies:
            such_as = ""
            if name is not None:
                such_as = f", such as {name(other, copies[0])} and {name(one, seen[parts[other][copies[0]]])}"
            log.warning(
                f"{len(copies)} of the {len(parts[other])} {other} {what} stand in the {one} part, too{such_as}: the "
                "scores will be too good."
            )
