"""Charts: a count over time, and bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree import ElementTree as Xml

from markupsafe import Markup

from custodes.console.charts.svg import WIDTH, finished, line, picture, text
from custodes.console.localization import local, say

_HEIGHT = 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 16, 28
_MOST_POINTS = 600


def count_over_time(
    curve: Sequence[tuple[int, float]], threshold: float, since: int, until: int, opened_at: int
) -> Markup:
    """Draws a count over time and its threshold. Times are microseconds since the epoch."""
    if not curve:
        return Markup("")
    shown = _thinned(curve)
    top = _nice(max(threshold, *(level for _, level in shown)) * 1.08)
    span = max(until - since, 1)

    def x(time: float) -> float:
        return round(_LEFT + min(max((time - since) / span, 0), 1) * (WIDTH - _LEFT - _RIGHT), 1)

    def y(level: float) -> float:
        return round(_HEIGHT - _BOTTOM - level / top * (_HEIGHT - _TOP - _BOTTOM), 1)

    peak = max(level for _, level in shown)
    label = say(
        "The count rose to %(peak)s; the threshold is %(threshold)s.", peak=f"{peak:,g}", threshold=f"{threshold:,g}"
    )
    svg = picture("chart", label, _HEIGHT)
    for level in (0, top / 2, top):
        line(svg, (_LEFT, y(level)), (WIDTH - _RIGHT, y(level)), "grid")
        text(svg, _LEFT - 6, y(level) + 4, f"{level:,g}", "end")
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        text(svg, x(since + share * span), _HEIGHT - 8, _moment(since + share * span, span), anchor)
    points = [(x(since), y(0))]
    for time, level in shown:
        if time > until:
            break
        points += [(x(time), points[-1][1]), (x(time), y(level))]
    points.append((x(until), points[-1][1]))
    outline = " ".join(f"{px},{py}" for px, py in points)
    Xml.SubElement(svg, "polygon", {"class": "area", "points": f"{outline} {x(until)},{y(0)}"})
    Xml.SubElement(svg, "polyline", {"class": "curve", "points": outline})
    line(svg, (_LEFT, y(threshold)), (WIDTH - _RIGHT, y(threshold)), "threshold")
    text(svg, _LEFT + 6, y(threshold) - 5, say("threshold %(threshold)s", threshold=f"{threshold:,g}"), "start")
    line(svg, (x(opened_at), _TOP), (x(opened_at), _HEIGHT - _BOTTOM), "opened")
    return finished(svg)


def bars(values: Sequence[tuple[str, int]], label: str) -> Markup:
    """Draws one bar per value, with its name below if there is room."""
    if not values:
        return Markup("")
    height, bottom = 120, 22
    svg = picture("bars", label, height)
    most = max(1, *(count for _, count in values))
    step = (WIDTH - 8) / len(values)
    every = max(1, math.ceil(len(values) * 44 / WIDTH))
    for at, (name, count) in enumerate(values):
        tall = round(count / most * (height - bottom - 16), 1)
        place = {"x": f"{4 + at * step:.1f}", "y": f"{height - bottom - tall:.1f}"}
        bar = Xml.SubElement(svg, "rect", {**place, "width": f"{max(step - 2, 1):.1f}", "height": str(tall)})
        Xml.SubElement(bar, "title").text = f"{name}: {count:,}"
        if at % every == 0:
            text(svg, 4 + (at + 0.5) * step, height - 6, name, "middle")
    text(svg, 4, 12, f"{most:,}", "start")
    return finished(svg)


def _thinned(curve: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Reduces a curve to at most ``_MOST_POINTS`` points: the highest and the last of each section."""
    if len(curve) <= _MOST_POINTS:
        return list(curve)
    size = math.ceil(2 * len(curve) / _MOST_POINTS)
    thinned: list[tuple[int, float]] = []
    for start in range(0, len(curve), size):
        stretch = curve[start : start + size]
        highest = max(stretch, key=lambda point: point[1])
        thinned += [highest, stretch[-1]] if highest != stretch[-1] else [highest]
    return thinned


def _nice(value: float) -> float:
    """Rounds up to 1, 2, 4 or 5 times a power of ten, for the end of an axis."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 4, 5, 10) if power * step >= value)


def _moment(micros: float, span: int) -> str:
    pattern = "%Y-%m-%d" if span > 4 * 86_400_000_000 else "%m-%d %H:%M" if span > 3_600_000_000 else "%H:%M:%S"
    return local(micros).strftime(pattern)
