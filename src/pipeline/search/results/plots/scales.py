"""Where a value of a dimension lies on an axis, and what is written there."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib.axis import Axis, XAxis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from pipeline.reports import charts
from pipeline.reports.charts import format_tick
from pipeline.search.space import Choices, Dimension, Value

ROOM = 0.04  # of an axis, beyond its first and last value
MOST_LABELS = 24  # choices that are all named on an axis
LONGEST = 24


@dataclass(frozen=True)
class Scale:
    """Choices lie at 0, 1, 2 ..., in their order as numbers where they are all numbers."""

    key: str
    name: str
    dimension: Dimension

    @cached_property
    def labels(self) -> list[Value]:
        assert isinstance(self.dimension, Choices)
        labels = list(self.dimension.labels)
        numbers = [each for each in labels if isinstance(each, int | float) and not isinstance(each, bool)]
        return sorted(numbers) if len(numbers) == len(labels) else labels  # type: ignore[return-value]

    @property
    def is_choice(self) -> bool:
        return isinstance(self.dimension, Choices)

    @property
    def is_log(self) -> bool:
        return not isinstance(self.dimension, Choices) and self.dimension.is_log

    def place(self, value: Value) -> float:
        if isinstance(self.dimension, Choices):
            return float(self.labels.index(value))
        assert isinstance(value, int | float)
        return float(value)

    def share(self, value: Value) -> float:
        """0 for the lowest, 1 for the highest."""
        return self.share_of(self.place(value))

    def share_of(self, place: float) -> float:
        if self.is_choice:  # in the middle of its part
            return (place + 0.5) / len(self.labels)
        low, high = self._ends()
        if self.is_log:
            low, high, place = np.log(low), np.log(high), np.log(place)
        return float((place - low) / (high - low)) if high > low else 0.5

    def at_share(self, share: Any) -> Any:
        low, high = self._ends()
        if self.is_choice:
            return share * len(self.labels) - 0.5
        return np.exp(np.log(low) + share * np.log(high / low)) if self.is_log else low + share * (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """(place, text) of a few values, the ends among them."""
        if isinstance(self.dimension, Choices):
            named = self.labels if len(self.labels) <= MOST_LABELS else [self.labels[0], self.labels[-1]]
            texts = distinct_labels([self.dimension.text(each) for each in named])
            return [(self.place(each), text) for each, text in zip(named, texts, strict=True)]
        low, high = self._ends()
        if low == high:
            return [(low, format_tick(low))]
        inside = charts.Axis(low, high, 1.0, logarithmic=self.is_log).ticks(4)
        if self.dimension.is_whole:
            inside = [each for each in inside if each == int(each)]
        apart = [each for each in inside if 0.12 < self.share_of(each) < 0.88]
        return [(each, format_tick_value(each)) for each in (low, *apart, high)]

    def dress(self, axis: Axis) -> None:
        """Scale, ends, ticks and name of a panel's axis."""
        panel, letter = axis.axes, _letter(axis)
        if self.is_log:
            getattr(panel, f"set_{letter}scale")("log")
        room = 0.0 if self.is_choice else ROOM
        ends = [self.at_share(-room), self.at_share(1 + room)]
        if ends[0] == ends[1]:
            ends = [ends[0] - 1, ends[0] + 1]
        if self.is_choice:
            self._choice(axis)
        else:
            assert not isinstance(self.dimension, Choices)
            number_axis(axis, *self._ends(), is_log=self.is_log, is_whole=self.dimension.is_whole)
        getattr(panel, f"set_{letter}lim")(*ends)
        axis.set_label_text(wrap_label(self.name, 34))

    def _choice(self, axis: Axis) -> None:
        places, texts = zip(*self.ticks(), strict=True)
        if _letter(axis) == "y":
            axis.set_ticks(places, [wrap_label(text, 14, 2) for text in texts])
        elif len(texts) <= 5:
            axis.set_ticks(places, [wrap_label(text, 40 // len(texts), 2) for text in texts])
        else:
            axis.set_ticks(places, texts)
            for label in axis.get_ticklabels():
                label.set(rotation=40, ha="right", rotation_mode="anchor")

    def _ends(self) -> tuple[float, float]:
        if isinstance(self.dimension, Choices):
            return 0.0, float(len(self.labels) - 1)
        return float(self.dimension.low), float(self.dimension.high)


def _letter(axis: Axis) -> str:
    return "x" if isinstance(axis, XAxis) else "y"


def number_axis(axis: Axis, low: float, high: float, *, is_log: bool, is_whole: bool = False) -> None:
    """Ticks and what is written beside them, for values from `low` to `high`."""
    if is_log:
        few = high / low < 30  # powers of ten alone would leave the axis without a number
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=6))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(5, integer=is_whole))
    axis.set_major_formatter(FuncFormatter(lambda value, _: format_tick_value(value)))


def format_tick_value(value: float) -> str:
    return format_tick(float(f"{value:.4g}"))


def shorten_keys(keys: Iterable[str]) -> dict[str, str]:
    """Return the last part of each key, with as much before it as makes it unique."""
    known = list(keys)
    found = {}
    for key in known:
        parts = key.split(".")
        tails = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        others = [f".{other}" for other in known if other != key]
        found[key] = next((tail for tail in tails if not any(each.endswith(f".{tail}") for each in others)), key)
    return found


def truncate_text(text: str, longest: int = LONGEST) -> str:
    """Its beginning and its end."""
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def distinct_labels(texts: Sequence[str]) -> list[str]:
    """Each cut to LONGEST; where that leaves several alike, without what all of them begin with."""
    found = [truncate_text(text) for text in texts]
    if len(set(found)) == len(texts):
        return found
    same = next((at for at, letters in enumerate(zip(*texts, strict=False)) if len(set(letters)) > 1), 0)
    return [f"…{text[same : same + LONGEST - 2]}…" for text in texts]


def wrap_label(text: str, width: int, lines: int = 3) -> str:
    """Broken where a word of it ends, and cut off in the middle where it has more than so many lines."""
    rows = [""]
    for part in re.findall(rf"[^._\-/, ]{{0,{width}}}[._\-/, ]?", truncate_text(text, width * lines)):
        if len(rows[-1]) + len(part) > width and rows[-1]:
            rows.append("")
        rows[-1] += part
    return "\n".join(rows)
