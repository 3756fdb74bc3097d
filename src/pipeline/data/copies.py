"""Samples that stand in two parts: leakage, counted and warned of in the same words for every kind of data."""

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

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
        if copies and name is not None:
            example = f", such as {name(other, copies[0])} and {name(one, seen[parts[other][copies[0]]])}"
        else:
            example = ""
        _warn(len(copies), len(parts[other]), other, one, what, example)


def warn_of_equal_hashes(parts: Mapping[str, npt.NDArray[np.uint64]], what: str) -> None:
    """The same of millions of samples, in the memory of a few arrays."""
    for one, other in combinations(parts, 2):
        copies = int(np.isin(parts[other], parts[one]).sum())
        _warn(copies, len(parts[other]), other, one, what, "")


def _warn(copies: int, count: int, part: str, other: str, what: str, example: str) -> None:
    if copies:
        log.warning(
            f"{copies} of the {count} {part} {what} stand in the {other} part, too{example}: the scores will be too "
            "good"
        )
