"""Which of several networks is better on the same test samples, and whether that is more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from pipeline.lifecycle.reports.predictions import SavedPredictions
from pipeline.lifecycle.reports.statistics import SIGNIFICANCE, Interval, holm, interval_of_mean, mcnemar

NO_WINNER = "no clear winner"


@dataclass(frozen=True)
class Duel:
    """Of two networks, by their places; the first is right at least as often.

    `difference` in accuracy and its interval; `p_value` by McNemar's test, `adjusted` for the number of duels (Holm).
    """

    first: int
    second: int
    only_first: int
    only_second: int
    difference: float
    interval: Interval
    loss_difference: float
    loss_interval: Interval
    p_value: float
    adjusted: float

    @property
    def is_decided(self) -> bool:
        return self.adjusted < SIGNIFICANCE


def duels(networks: Sequence[SavedPredictions]) -> list[Duel]:
    """Every pair, better network first. All must have judged the same samples (`are_comparable`)."""
    accuracy = [float(each.right.mean()) for each in networks]
    pairs = [sorted(pair, key=lambda place: -accuracy[place]) for pair in combinations(range(len(networks)), 2)]
    discordant = [_discordant(networks[first], networks[second]) for first, second in pairs]
    p_values = [mcnemar(*counts) for counts in discordant]
    found = []
    for (first, second), counts, p_value, adjusted in zip(pairs, discordant, p_values, holm(p_values), strict=True):
        gained = networks[first].right.astype(np.float32) - networks[second].right
        losses = networks[first].losses - networks[second].losses
        found.append(
            Duel(
                first,
                second,
                *counts,
                difference=float(gained.mean(dtype=np.float64)),
                interval=interval_of_mean(gained),
                loss_difference=float(losses.mean(dtype=np.float64)),
                loss_interval=interval_of_mean(losses),
                p_value=p_value,
                adjusted=adjusted,
            )
        )
    return found


def _discordant(first: SavedPredictions, second: SavedPredictions) -> tuple[int, int]:
    return int((first.right & ~second.right).sum()), int((second.right & ~first.right).sum())


def are_comparable(networks: Sequence[SavedPredictions]) -> bool:
    """Whether they judged the same samples."""
    first = networks[0]
    return all(each.digest == first.digest and np.array_equal(each.ids, first.ids) for each in networks[1:])


def verdict(names: Sequence[str], networks: Sequence[SavedPredictions], fought: Sequence[Duel]) -> str:
    """In one sentence: the most accurate has won if it beats every other beyond chance; else these share its place."""
    best = max(range(len(names)), key=lambda place: float(networks[place].right.mean()))
    beaten = {duel.second for duel in fought if duel.is_decided and duel.first == best}
    rivals = [names[place] for place in range(len(names)) if place not in beaten and place != best]
    if not rivals:
        return f"{names[best]} is the best"
    return NO_WINNER if not beaten else f"{NO_WINNER} among {names[best]} and {_listed(rivals)}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)
