"""Suggest what a user may have meant."""

import difflib
from collections.abc import Iterable


def nearest_names(word: str, candidates: Iterable[str], *, at_most: int = 3) -> list[str]:
    """Return the candidates that `word` may stand for, the most similar first.

    `word` may be a typing mistake (`max_epoch`), initials (`lr` for learning_rate) or a part of a name (`epochs`).
    """
    known = list(dict.fromkeys(map(str, candidates)))
    lowered = word.lower()
    same = [name for name in known if name.lower() == lowered]
    initials = [name for name in known if "_" in name and "".join(part[:1] for part in name.split("_")) == lowered]
    likeness = {name: difflib.SequenceMatcher(None, lowered, name.lower()).ratio() for name in known}
    threshold = max(0.6, max(likeness.values(), default=0) - 0.15)  # beside a close match, a distant one only confuses
    slips = [name for name in sorted(known, key=likeness.__getitem__, reverse=True) if likeness[name] >= threshold]
    parts = [name for name in known if len(word) > 3 and lowered in name.lower().split("_")]
    return list(dict.fromkeys([*same, *initials, *slips, *parts]))[:at_most]


def did_you_mean(suggestions: Iterable[str]) -> str:
    """Return a line to add to a message; empty without suggestions."""
    listed = " or ".join(suggestions)
    return f"\n  did you mean  {listed} ?" if listed else ""


def listing(what: str, names: Iterable[str]) -> str:
    """Return a line to add to a message that lists all names; empty without names."""
    listed = ", ".join(names)
    return f"\n  {what}: {listed}" if listed else ""
