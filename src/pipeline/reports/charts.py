"""Draw charts as SVG. In a page they follow its light or dark style; `svg_file` makes files that need no page."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from pipeline.reports.evaluation_statistics import BINS, Calibration, Floats, Ints
from pipeline.reports.html import Html, chart_style, element, encode_png, join_html, png_data_uri

LOGARITHMIC_FROM = 20.0  # ratio of the largest value to the smallest
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """A scale from `low`, at 0, to `high`, at `length`."""

    low: float
    high: float
    length: float
    logarithmic: bool = False

    def position(self, value: float) -> float:
        low, high = self._scaled(self.low), self._scaled(self.high)
        return (self._scaled(max(value, self.low) if self.logarithmic else value) - low) / (high - low) * self.length

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def ticks(self, at_most: int = 5) -> list[float]:
        if not self.logarithmic:
            return round_numbers(self.low, self.high, at_most)
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        factors = (1.0,) if last - first > 3 else (1.0, 3.0)
        candidates = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        inside = [value for value in candidates if self.low <= value <= self.high]
        return inside[:: math.ceil(len(inside) / at_most) or 1] if inside else [self.low, self.high]


def round_numbers(low: float, high: float, at_most: int) -> list[float]:
    rough = (high - low) / at_most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in STEPS if size * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def axis_around(values: Sequence[float], length: float, *, may_be_logarithmic: bool = False) -> Axis:
    """Return an axis that holds all of these finite values, with a margin."""
    low, high = min(values), max(values)
    if may_be_logarithmic and low > 0 and high / low > LOGARITHMIC_FROM:
        return Axis(low / 1.15, high * 1.15, length, logarithmic=True)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return Axis(low - room, high + room, length)


def format_tick(value: float) -> str:
    """Return a short label: 0.003, 12, 1.5k."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    if value != 0 and abs(value) < 0.001:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.6g}"


WIDTH, HEIGHT = 460, 270  # as wide as a telephone, so that text stays legible there
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 20, 38
MOST_POINTS = 300
MOST_DOTS = 1_000  # of a scatter chart
GAP = 28  # between the charts of a file
CELL, TILE, TILES = 34, 92, 8  # a cell of a matrix; an image, and how many in a row
READABLE = 30  # classes up to which a matrix shows its numbers
EARLY = 0.1  # share of the first training points that the axis ignores, because their scale would hide the rest

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """A line of a chart; `style` is a class of the style sheet, and `dotted` marks the points."""

    label: str
    points: Points
    style: str
    dotted: bool = False


@dataclass(frozen=True)
class Chart:
    """A drawing with its title; `legend` holds (label, class of the style sheet)."""

    title: str
    drawing: Html
    legend: Sequence[tuple[str, str]] = ()
    width: float = WIDTH
    height: float = HEIGHT

    @property
    def figure(self) -> Html:
        """The <figure> element for a page."""
        keys = [element("span", element("i", class_=f"key {style}"), label) for label, style in self.legend]
        size = f"0 0 {self.width:g} {self.height:g}"
        picture = element("svg", self.drawing, viewBox=size, role="img", aria_label=self.title)
        return element("figure", element("figcaption", element("b", self.title), *keys), picture)


@dataclass(frozen=True)
class Mark:
    """A labelled vertical line at `x`."""

    x: float
    label: str
    style: str = "mark"


def line_chart(
    title: str, lines: Sequence[Line], *, x_label: str, marks: Sequence[Mark] = (), may_be_logarithmic: bool = False
) -> Chart | None:
    """Draw lines from x = 0, or return None if they have no finite points."""
    drawn = [Line(each.label, downsample(finite_points(each.points)), each.style, each.dotted) for each in lines]
    drawn = [each for each in drawn if each.points]
    if not drawn:
        return None
    across = Axis(0, max(x for line in drawn for x, _ in line.points) or 1, WIDTH - LEFT - RIGHT)
    values = [value for line in drawn for value in _scale_values(line)]
    up = axis_around(values, HEIGHT - TOP - BOTTOM, may_be_logarithmic=may_be_logarithmic)
    drawing = join_html(
        _grid(across, up, x_label),
        *(_mark(mark, across) for mark in marks if mark.x <= across.high),
        # A nested svg clips its content.
        element(
            "svg",
            *(_line(line, across, up) for line in drawn),
            x=LEFT - 4,
            y=TOP - 4,
            width=across.length + 8,
            height=up.length + 8,
            viewBox=f"-4 -4 {across.length + 8} {up.length + 8}",
        ),
    )
    return Chart(title, drawing, [(line.label, line.style) for line in drawn if line.label])


def scatter_chart(
    title: str, points: Points, *, x_label: str, across: Axis, up: Axis, ideal: tuple[Points, str]
) -> Chart:
    """Draw points, and a dashed line through the two points of `ideal`; the lengths of the axes are ignored."""
    across, up = replace(across, length=WIDTH - LEFT - RIGHT), replace(up, length=HEIGHT - TOP - BOTTOM)
    floor = TOP + up.length
    dots = [
        element("circle", cx=f"{LEFT + across.position(x):.1f}", cy=f"{floor - up.position(y):.1f}", r=3)
        for x, y in finite_points(points)[:MOST_DOTS]
    ]
    (x1, y1), (x2, y2) = ((LEFT + across.position(x), floor - up.position(y)) for x, y in ideal[0])
    line = element("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_="ideal")
    drawing = join_html(_grid(across, up, x_label), element("g", *dots, class_="line s0", opacity=0.7), line)
    return Chart(title, drawing, [(ideal[1], "ideal")])


def histogram(title: str, values: Sequence[float], *, x_label: str) -> Chart:
    """Draw the counts of finite values in equal bins."""
    counts, edges = np.histogram(values, bins=2 * BINS)
    across = axis_around(edges.tolist(), WIDTH - LEFT - RIGHT)
    up = Axis(0, 1.06 * int(counts.max()), HEIGHT - TOP - BOTTOM)
    bars = []
    for count, left, right in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        x, tall = LEFT + across.position(left) + 0.5, up.position(count)
        tip = element("title", f"{left:.4g} to {right:.4g}: {count:,}")
        y, width = TOP + up.length - tall, LEFT + across.position(right) - x - 0.5
        bars.append(element("rect", tip, x=f"{x:.1f}", y=f"{y:.1f}", width=f"{width:.1f}", height=f"{tall:.1f}"))
    return Chart(title, join_html(_grid(across, up, x_label), element("g", *bars, class_="bar s0")))


def reliability_chart(calibration: Calibration) -> Chart:
    """Draw the accuracy by confidence, and below it the number of samples."""
    across = Axis(0, 1, WIDTH - LEFT - RIGHT)
    up, few = Axis(0, 1, HEIGHT - TOP - BOTTOM - 52), Axis(0, math.sqrt(int(calibration.counts.max())), 34)
    floor = TOP + up.length
    width = across.length / BINS
    bars = []
    for number in range(BINS):
        count, share = int(calibration.counts[number]), float(calibration.accuracy[number])
        if not count:
            continue
        text = f"confidence {number / BINS:.0%} to {(number + 1) / BINS:.0%}: {count:,} samples, accuracy {share:.1%}"
        left, tip = LEFT + number * width + 1, element("title", text)
        tall, deep = max(up.position(share), 1), max(few.position(math.sqrt(count)), 1)
        bars += [
            element("rect", tip, x=left, y=floor - tall, width=width - 2, height=tall, class_="bar s0"),
            element("rect", tip, x=left, y=HEIGHT - BOTTOM - deep, width=width - 2, height=deep, class_="bar soft"),
        ]
    diagonal = element("line", x1=LEFT, y1=floor, x2=LEFT + across.length, y2=TOP, class_="ideal")
    counted = element("text", "samples", x=LEFT - 7, y=HEIGHT - BOTTOM - 12, class_="end")
    grid = _grid(across, up, "confidence", percent=True, bottom=HEIGHT - BOTTOM)
    legend = [("accuracy", "s0"), ("perfectly calibrated", "ideal")]
    return Chart("Reliability", join_html(grid, *bars, diagonal, counted), legend)


def share_bars(title: str, names: Sequence[str], values: dict[str, Floats]) -> Chart:
    """Draw for each name one bar of each of `values`, from 0 to 1."""
    left, row = 9.0 + 6.5 * max(map(len, names)), 12.0 * len(values) + 8
    across = Axis(0, 1, 2 * WIDTH - left - RIGHT)
    bars = []
    for place, name in enumerate(names):
        top = TOP + place * row
        bars.append(element("text", name, x=left - 7, y=top + row / 2, class_="end"))
        for number, (what, each) in enumerate(values.items()):
            tip = element("title", f"{name}: {what} {each[place]:.1%}")
            wide, y = f"{across.position(float(each[place])):.1f}", top + 12 * number
            bars.append(element("rect", tip, x=left, y=y, width=wide, height=11, class_=f"bar s{number}"))
    bottom = TOP + len(names) * row
    bars += [
        element("text", f"{share:.0%}", x=left + across.position(share), y=bottom + 12, class_="middle")
        for share in across.ticks()
    ]
    legend = [(what, f"s{number}") for number, what in enumerate(values)]
    return Chart(title, join_html(*bars), legend, 2 * WIDTH, bottom + BOTTOM)


def confusion_chart(title: str, names: Sequence[str], counts: Ints) -> Chart:
    """Draw (K, K) counts: rows are true classes, columns predicted ones, and colour is the share of the row."""
    rows = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if len(names) > READABLE:
        blue = np.array(chart_style()[1]["s0-rgb"].split(), dtype=float)
        pixels = (255 - rows[:, :, None] * (255 - blue)).round().astype(np.uint8)
        return Chart(
            title, element("image", href=png_data_uri(encode_png(pixels)), width=WIDTH, height=WIDTH), (), WIDTH, WIDTH
        )
    left, top = 9 + 6.5 * max(map(len, names)), 9 + 6.5 * max(map(len, names))
    parts = []
    for row, name in enumerate(names):
        x, y = left + (row + 0.5) * CELL + 4, top + (row + 0.5) * CELL + 4
        parts.append(element("text", name, x=left - 7, y=y, class_="end"))
        parts.append(element("text", name, transform=f"translate({x:g} {top - 7:g}) rotate(-90)"))
        for column in np.flatnonzero(counts[row]).tolist():
            count, share = int(counts[row, column]), float(rows[row, column])
            tip = element("title", f"{count:,} samples of {name} were predicted as {names[column]}")
            x, opacity = left + column * CELL, f"{max(share, 0.12):.2f}"  # few mistakes must stay visible
            place: dict[str, object] = {"x": x + 1, "y": top + row * CELL + 1, "width": CELL - 2, "height": CELL - 2}
            parts.append(element("rect", tip, **place, fill_opacity=opacity, class_="bar s0"))
            kind = "middle strong" if share > 0.5 else "middle title"
            parts.append(element("text", f"{count:,}", x=x + CELL / 2, y=y, class_=kind))
    size = len(names) * CELL + RIGHT
    return Chart(title, join_html(*parts), (), left + size, top + size)


def image_grid(title: str, pictures: Sequence[Ints], captions: Sequence[str]) -> Chart:
    """Draw images (H, W) or (H, W, 3), TILES in a row."""
    parts, deep = [], TILE + (22 if any(captions) else 6)
    for number, (pixels, caption) in enumerate(zip(pictures, captions, strict=True)):
        x, y = number % TILES * (TILE + 6), number // TILES * deep
        parts.append(element("image", href=png_data_uri(encode_png(pixels)), x=x, y=y, width=TILE, height=TILE))
        parts.append(element("text", caption, x=x + TILE / 2, y=y + TILE + 13, class_="middle"))
    rows = math.ceil(len(pictures) / TILES)
    return Chart(title, join_html(*parts), (), min(len(pictures), TILES) * (TILE + 6), rows * deep)


def svg_file(charts: Sequence[Chart]) -> str:
    """Return an SVG file with these charts side by side, on light paper.

    Colours are written out, because many viewers do not know var().
    """
    at_most = 2 if len(charts) in (2, 4) else 3
    style_sheet, colours = chart_style()
    plain = re.sub(r"var\(--([\w-]+)\)", lambda match: colours[match[1]], style_sheet)
    wide, deep = (
        max(max(each.width, *_legend_positions(each)) for each in charts),
        max(each.height for each in charts) + 44,
    )
    places = [(GAP + at % at_most * (wide + GAP), GAP + at // at_most * deep) for at in range(len(charts))]
    placed = [
        element("g", _titled(each), transform=f"translate({x:g} {y:g})")
        for each, (x, y) in zip(charts, places, strict=True)
    ]
    width, height = GAP + min(len(charts), at_most) * (wide + GAP), GAP + math.ceil(len(charts) / at_most) * deep
    title = ", ".join(each.title for each in charts)
    paper = element("rect", width="100%", height="100%", fill=colours["paper"])
    size: dict[str, object] = {"viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}", "height": f"{height:g}"}
    head = join_html(element("title", title), element("style", Html(plain)), paper)
    return f"{element('svg', head, *placed, xmlns='http://www.w3.org/2000/svg', **size, role='img')}\n"


def _titled(chart: Chart) -> Html:
    """Draw a chart with its title and legend, which a page writes as HTML."""
    parts = [element("text", chart.title, y=10, class_="title")]
    for (label, kind), x in zip(chart.legend, _legend_positions(chart), strict=False):
        parts.append(element("g", element("path", d=f"M{x:g} 6h15"), class_=f"line {kind}"))
        parts.append(element("text", label, x=f"{x + 20:g}", y=10))
    return join_html(*parts, element("g", chart.drawing, transform="translate(0 22)"))


def finite_points(points: Points) -> Points:
    return [(x, y) for x, y in points if math.isfinite(y)]


def downsample(points: Points) -> Points:
    """Return at most MOST_POINTS points, each a mean of neighbours; the last point stays as it is."""
    size = math.ceil(len(points) / MOST_POINTS)
    if size <= 1:
        return points
    groups = [points[first : first + size] for first in range(0, len(points), size)]
    means = [(sum(x for x, _ in each) / len(each), sum(y for _, y in each) / len(each)) for each in groups]
    return [*means[:-1], points[-1]]


def _scale_values(line: Line) -> list[float]:
    first = 0 if line.dotted or len(line.points) < 1 / EARLY else math.ceil(EARLY * len(line.points))
    return [value for _, value in line.points[first:]]


def _grid(across: Axis, up: Axis, x_label: str, *, percent: bool = False, bottom: float | None = None) -> Html:
    floor = TOP + up.length
    below = floor if bottom is None else bottom
    parts = []
    for value in up.ticks():
        y = floor - up.position(value)
        parts += [
            element("line", x1=LEFT, y1=f"{y:.1f}", x2=LEFT + across.length, y2=f"{y:.1f}", class_="rule"),
            element("text", _tick_label(value, percent), x=LEFT - 7, y=f"{y + 4:.1f}", class_="end"),
        ]
    for value in across.ticks(6):
        x = LEFT + across.position(value)
        parts.append(element("text", _tick_label(value, percent), x=f"{x:.1f}", y=below + 16, class_="middle"))
    parts.append(element("text", x_label, x=LEFT + across.length / 2, y=below + 33, class_="middle label"))
    return join_html(*parts)


def _tick_label(value: float, percent: bool) -> str:
    return f"{value:.0%}" if percent else format_tick(value)


def _line(line: Line, across: Axis, up: Axis) -> Html:
    places = [(across.position(x), up.length - up.position(y)) for x, y in line.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = [
        element("circle", element("title", f"{line.label} {y:.4g}"), cx=f"{px:.1f}", cy=f"{py:.1f}", r=3)
        for (px, py), (_, y) in zip(places, line.points, strict=True)
        if line.dotted and len(places) <= 60
    ]
    return element("g", element("path", d=path), *dots, class_=f"line {line.style}")


def _mark(mark: Mark, across: Axis) -> Html:
    x = LEFT + across.position(mark.x)
    side = "end" if mark.x > across.high / 2 else "start"
    return element(
        "g",
        element("line", x1=f"{x:.1f}", y1=TOP - 4, x2=f"{x:.1f}", y2=HEIGHT - BOTTOM),
        element("text", mark.label, x=f"{x:.1f}", y=TOP - 9, class_=side),
        class_=mark.style,
    )


def _legend_positions(chart: Chart) -> list[float]:
    """Return the x of each legend entry, and the end of the last one; text widths are estimates."""
    lengths = [7.5 * len(chart.title) + 18, *(6.5 * len(label) + 40 for label, _ in chart.legend)]
    return list(accumulate(lengths))
