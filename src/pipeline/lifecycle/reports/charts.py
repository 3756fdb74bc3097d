"""Drawings as inline SVG, in the colours of the page: they follow its light or dark style."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.lifecycle.reports.axes import Axis, around, short
from pipeline.lifecycle.reports.markup import Html, element, join
from pipeline.lifecycle.reports.statistics import BINS, Calibration

WIDTH, HEIGHT = 460, 270  # as wide as a telephone, so that the writing stays legible there
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 20, 38
MOST_POINTS = 300
MOST_DOTS = 1_000  # of a cloud
EARLY = 0.1  # a share of the first training points may lie outside: they would press everything else together

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """`style` is a class of the style sheet; `dotted` also marks the points themselves."""

    label: str
    points: Points
    style: str
    dotted: bool = False


@dataclass(frozen=True)
class Mark:
    """A place on the horizontal axis to be told of."""

    x: float
    label: str
    style: str = "mark"


def line_chart(
    title: str, lines: Sequence[Line], *, x_label: str, marks: Sequence[Mark] = (), may_be_logarithmic: bool = False
) -> Html | None:
    """None where there is nothing to draw."""
    drawn = [Line(each.label, thinned(finite(each.points)), each.style, each.dotted) for each in lines]
    drawn = [each for each in drawn if each.points]
    if not drawn:
        return None
    across = Axis(0, max(x for line in drawn for x, _ in line.points) or 1, WIDTH - LEFT - RIGHT)
    values = [value for line in drawn for value in _shown(line)]
    up = around(values, HEIGHT - TOP - BOTTOM, may_be_logarithmic=may_be_logarithmic)
    picture = _svg(
        title,
        _grid(across, up, x_label),
        *(_mark(mark, across) for mark in marks if mark.x <= across.high),
        # An svg inside cuts off what lies beyond its edges.
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
    return figure(title, picture, [(line.label, line.style) for line in drawn if line.label])


def scatter(title: str, points: Points, *, x_label: str, across: Axis, up: Axis, ideal: tuple[Points, str]) -> Html:
    """Points, and a dashed line through those of `ideal`, on axes of values alone: their lengths are ours."""
    across, up = replace(across, length=WIDTH - LEFT - RIGHT), replace(up, length=HEIGHT - TOP - BOTTOM)
    floor = TOP + up.length
    dots = [
        element("circle", cx=f"{LEFT + across.place(x):.1f}", cy=f"{floor - up.place(y):.1f}", r=3)
        for x, y in finite(points)[:MOST_DOTS]
    ]
    (x1, y1), (x2, y2) = ((LEFT + across.place(x), floor - up.place(y)) for x, y in ideal[0])
    line = element("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_="ideal")
    picture = _svg(title, _grid(across, up, x_label), element("g", *dots, class_="line s0", opacity=0.7), line)
    return figure(title, picture, [(ideal[1], "ideal")])


def figure(title: str, picture: Html, legend: Sequence[tuple[str, str]] = ()) -> Html:
    keys = [element("span", element("i", class_=f"key {style}"), label) for label, style in legend]
    return element("figure", element("figcaption", element("b", title), *keys), picture)


def reliability(calibration: Calibration) -> Html:
    """Above, how often the network is right by how sure it is; below, how many samples there are of each."""
    across = Axis(0, 1, WIDTH - LEFT - RIGHT)
    up, few = Axis(0, 1, HEIGHT - TOP - BOTTOM - 52), Axis(0, math.sqrt(int(calibration.counts.max())), 34)
    floor = TOP + up.length
    width = across.length / BINS
    bars = []
    for number in range(BINS):
        count, share = int(calibration.counts[number]), float(calibration.accuracy[number])
        if not count:
            continue
        said = f"{number / BINS:.0%} to {(number + 1) / BINS:.0%} sure: {count:,} samples, {share:.1%} right"
        left, tip = LEFT + number * width + 1, element("title", said)
        tall, deep = max(up.place(share), 1), max(few.place(math.sqrt(count)), 1)
        bars += [
            element("rect", tip, x=left, y=floor - tall, width=width - 2, height=tall, class_="bar"),
            element("rect", tip, x=left, y=HEIGHT - BOTTOM - deep, width=width - 2, height=deep, class_="bar quiet"),
        ]
    diagonal = element("line", x1=LEFT, y1=floor, x2=LEFT + across.length, y2=TOP, class_="ideal")
    counted = element("text", "samples", x=LEFT - 7, y=HEIGHT - BOTTOM - 12, class_="end")
    grid = _grid(across, up, "how sure it was", percent=True, bottom=HEIGHT - BOTTOM)
    picture = _svg("Reliability", grid, *bars, diagonal, counted)
    return figure("How often it was right", picture, [("accuracy", "s0"), ("as sure as right", "ideal")])


def finite(points: Points) -> Points:
    return [(x, y) for x, y in points if math.isfinite(y)]


def thinned(points: Points) -> Points:
    """At most MOST_POINTS, each the mean of its neighbours; the last point stays what it is."""
    size = math.ceil(len(points) / MOST_POINTS)
    if size <= 1:
        return points
    groups = [points[first : first + size] for first in range(0, len(points), size)]
    means = [(sum(x for x, _ in each) / len(each), sum(y for _, y in each) / len(each)) for each in groups]
    return [*means[:-1], points[-1]]


def _shown(line: Line) -> list[float]:
    first = 0 if line.dotted or len(line.points) < 1 / EARLY else math.ceil(EARLY * len(line.points))
    return [value for _, value in line.points[first:]]


def _svg(title: str, *children: Html | None) -> Html:
    return element("svg", *children, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title)


def _grid(across: Axis, up: Axis, x_label: str, *, percent: bool = False, bottom: float | None = None) -> Html:
    floor = TOP + up.length
    below = floor if bottom is None else bottom
    parts = []
    for value in up.ticks():
        y = floor - up.place(value)
        parts += [
            element("line", x1=LEFT, y1=f"{y:.1f}", x2=LEFT + across.length, y2=f"{y:.1f}", class_="rule"),
            element("text", _written(value, percent), x=LEFT - 7, y=f"{y + 4:.1f}", class_="end"),
        ]
    for value in across.ticks(6):
        x = LEFT + across.place(value)
        parts.append(element("text", _written(value, percent), x=f"{x:.1f}", y=below + 16, class_="middle"))
    parts.append(element("text", x_label, x=LEFT + across.length / 2, y=below + 33, class_="middle label"))
    return join(*parts)


def _written(value: float, percent: bool) -> str:
    return f"{value:.0%}" if percent else short(value)


def _line(line: Line, across: Axis, up: Axis) -> Html:
    places = [(across.place(x), up.length - up.place(y)) for x, y in line.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = [
        element("circle", element("title", f"{line.label} {y:.4g}"), cx=f"{px:.1f}", cy=f"{py:.1f}", r=3)
        for (px, py), (_, y) in zip(places, line.points, strict=True)
        if line.dotted and len(places) <= 60
    ]
    return element("g", element("path", d=path), *dots, class_=f"line {line.style}")


def _mark(mark: Mark, across: Axis) -> Html:
    x = LEFT + across.place(mark.x)
    side = "end" if mark.x > across.high / 2 else "start"
    return element(
        "g",
        element("line", x1=f"{x:.1f}", y1=TOP - 4, x2=f"{x:.1f}", y2=HEIGHT - BOTTOM),
        element("text", mark.label, x=f"{x:.1f}", y=TOP - 9, class_=side),
        class_=mark.style,
    )
