"""Samples that stand in two parts: leakage, counted and warned of in the same words for every kind of data."""

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations

log = logging.getLogger(__name__)


def warn_of_copies(
    parts: Mapping[str, Sequence[Hashable]], what: str, name: Callable[[str, int], str] | None = None
) -> None:
    """A sample that is learned from and judged on alike makes the score too good.

    `parts`: of each, training first, what tells a sample from others; `name`: what a sample of a part is called.
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
                "scores will be too good"
            )
