"""From values to places on a chart, and round numbers to write beside them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LOGARITHMIC_FROM = 20.0  # times the smallest value
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on a line of `length`, of which `low` lies at 0."""

    low: float
    high: float
    length: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        low, high = self._scaled(self.low), self._scaled(self.high)
        return (self._scaled(max(value, self.low) if self.logarithmic else value) - low) / (high - low) * self.length

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def ticks(self, at_most: int = 5) -> list[float]:
        if not self.logarithmic:
            return round_numbers(self.low, self.high, at_most)
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        factors = (1.0,) if last - first > 3 else (1.0, 3.0)
        found = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        inside = [value for value in found if self.low <= value <= self.high]
        return inside[:: math.ceil(len(inside) / at_most) or 1] if inside else [self.low, self.high]


def round_numbers(low: float, high: float, at_most: int) -> list[float]:
    rough = (high - low) / at_most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in STEPS if size * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def around(values: Sequence[float], length: float, *, may_be_logarithmic: bool = False) -> Axis:
    """An axis on which all of these finite values can be seen, with a little room."""
    low, high = min(values), max(values)
    if may_be_logarithmic and low > 0 and high / low > LOGARITHMIC_FROM:
        return Axis(low / 1.15, high * 1.15, length, logarithmic=True)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return Axis(low - room, high + room, length)


def short(value: float) -> str:
    """As few characters as tell it: 0.003, 12, 1.5k."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    if value != 0 and abs(value) < 0.001:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.6g}"
