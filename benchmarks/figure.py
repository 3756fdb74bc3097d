"""One figure: ours, what it is measured against, and whether that is good enough."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """`baseline` is None for a figure that is good or bad by itself (an accuracy, a second)."""

    what: str
    ours: str
    baseline: str | None
    value: float
    target: float
    better: Literal["higher", "lower"]
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.value >= self.target if self.better == "higher" else self.value <= self.target

    def row(self) -> tuple[str, ...]:
        sign = "≥" if self.better == "higher" else "≤"
        return (
            self.what,
            self.ours,
            self.baseline or "",
            f"{self.value:.3g}{self.unit}",
            f"{sign} {self.target:g}{self.unit}",
            "yes" if self.met else "NO",
        )


class Skipped(Exception):
    """What is missing to measure it."""
