"""How all pictures of a search look: in the colours of the reports' page, without any state of matplotlib's own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from optuna.trial import TrialState

from pipeline.reports.html import chart_style
from pipeline.search.results.search_results import Objective

_, COLOURS = chart_style()
PAPER, INK, QUIET, RULE, SOFT = (COLOURS[name] for name in ("paper", "ink", "quiet", "rule", "soft"))
BLUE, ORANGE, GREEN, RED = (COLOURS[name] for name in ("s0", "s1", "s2", "s5"))
# From the worst to the best; the best is the darkest, and none is so light that it cannot be seen.
SHADES = LinearSegmentedColormap.from_list("score", ["#dbe0e6", "#9fbfdc", "#4f8ec4", "#1f5a9c", "#0b2c55"])
STATE_COLOURS = {
    TrialState.COMPLETE: BLUE,
    TrialState.PRUNED: SOFT,
    TrialState.FAIL: RED,
    TrialState.RUNNING: GREEN,
    TrialState.WAITING: RULE,
}
SETTINGS: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.parse_math": False,  # a $ in a user's value is a $
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "legend.frameon": False,
}
FENCE = 2.0  # times the distance between the quartiles; what is worse is drawn at the edge


def new_figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def value_range(values: Sequence[float], objective: Objective) -> tuple[float, float]:
    """Return the range to show: a few very bad scores would press all others together.

    Tukey's fence (1977), on the worse side only.
    """
    low, high = min(values), max(values)
    lower, upper = np.quantile(values, [0.25, 0.75])
    spread = FENCE * (upper - lower)
    if spread > 0 and objective.is_maximized:
        low = max(low, float(lower - spread))
    elif spread > 0:
        high = min(high, float(upper + spread))
    if low == high:
        room = 0.05 * abs(low) or 0.5
        return low - room, high + room
    return low, high


def colour_scale(values: Sequence[float], objective: Objective) -> Normalize:
    """To be given the values themselves; see `toward_best`."""
    low, high = value_range(values, objective)
    return Normalize(low, high, clip=True)


def colour_map(objective: Objective) -> LinearSegmentedColormap:
    return SHADES if objective.is_maximized else SHADES.reversed()


def limit_to_range(panel: Axes, values: Sequence[float], objective: Objective) -> tuple[float, float]:
    """Set the vertical limits, and return the range that they show."""
    low, high = value_range(values, objective)
    room = 0.06 * (high - low)
    panel.set_ylim(low - room, high + room)
    return low, high


def note_hidden_values(panel: Axes, values: Sequence[float], shown: tuple[float, float], objective: Objective) -> None:
    hidden = sum(not shown[0] <= value <= shown[1] for value in values)
    if hidden:
        side, where = ("bottom", 0.01) if objective.is_maximized else ("top", 0.99)
        sentence = f"▾ {hidden} below" if objective.is_maximized else f"▴ {hidden} above"
        box = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
        panel.text(0.99, where, sentence, transform=panel.transAxes, ha="right", va=side, color=QUIET, size=8, bbox=box)


def note(panel: Axes, sentence: str) -> None:
    """In place of a drawing."""
    panel.axis("off")
    panel.text(0.5, 0.5, sentence, transform=panel.transAxes, ha="center", va="center", color=QUIET, wrap=True)
