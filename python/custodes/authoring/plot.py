"""Plot of a backtest: findings per week by threshold, on logarithmic axes, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree as Xml

from custodes.authoring.backtest import Backtest

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 30, 50, 60
_STYLE = """
svg { font: 13px system-ui, sans-serif; background: #fff; color: #1b1f24 }
text { fill: currentColor } .title { font-size: 16px; font-weight: 600 }
.grid { stroke: #d0d7de } .curve { fill: none; stroke: #0550ae; stroke-width: 2 }
.own { stroke: #57606a; stroke-dasharray: 5 4 } .suggested { stroke: #116329; stroke-width: 2 }
.budget { stroke: #9a6700; stroke-dasharray: 2 3 }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; color: #e6edf3 } .grid { stroke: #30363d } .curve { stroke: #79c0ff }
  .own { stroke: #8b949e } .suggested { stroke: #56d364 } .budget { stroke: #e3b341 }
}
"""


class _Axis:
    """A logarithmic axis from its smallest decade to its largest."""

    def __init__(self, values: Sequence[float], begin: float, end: float) -> None:
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self._begin, self._end = begin, end

    def at(self, value: float) -> float:
        share = (math.log10(max(value, 10.0**self.low)) - self.low) / (self.high - self.low)
        return round(self._begin + share * (self._end - self._begin), 1)

    def decades(self) -> Iterator[float]:
        return (10.0**power for power in range(self.low, self.high + 1))


def plot(result: Backtest, budget: float | None) -> str:
    """Returns a self-contained SVG document without any name of a person."""
    shown = [at for at in result.thresholds if at.findings]
    none = [at for at in result.thresholds if not at.findings][:1]
    weekly = [at.a_week(result.weeks) for at in shown]
    marks = [("own", result.own), *([] if result.suggested is None else [("suggested", result.suggested)])]
    x = _Axis([at.threshold for at in (*shown, *none, *(at for _, at in marks))], _LEFT, _WIDTH - _RIGHT)
    y = _Axis([*weekly, budget or 1.0, 1.0], _HEIGHT - _BOTTOM, _TOP)
    svg = Xml.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img")
    title = f"{result.rule.title}: findings per week by {result.lever.value}"
    Xml.SubElement(svg, "title").text = title
    Xml.SubElement(svg, "style").text = _STYLE
    _text(svg, _LEFT, 26, title, css="title")
    for value in x.decades():
        _line(svg, (x.at(value), _TOP), (x.at(value), _HEIGHT - _BOTTOM), "grid")
        _text(svg, x.at(value), _HEIGHT - _BOTTOM + 20, f"{value:,g}", anchor="middle")
    for value in y.decades():
        _line(svg, (_LEFT, y.at(value)), (_WIDTH - _RIGHT, y.at(value)), "grid")
        _text(svg, _LEFT - 8, y.at(value) + 4, f"{value:,g}", anchor="end")
    _text(svg, (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 14, result.lever.value, anchor="middle")
    points = [(x.at(at.threshold), y.at(a_week)) for at, a_week in zip(shown, weekly, strict=True)]
    # From the last threshold with findings the curve drops to the axis at the first threshold without.
    points += [(x.at(at.threshold), y.at(0)) for at in none]
    Xml.SubElement(svg, "polyline", {"class": "curve", "points": " ".join(f"{px},{py}" for px, py in points)})
    if budget:
        _line(svg, (_LEFT, y.at(budget)), (_WIDTH - _RIGHT, y.at(budget)), "budget")
        _text(svg, _WIDTH - _RIGHT, y.at(budget) - 6, f"budget {budget:g}", anchor="end")
    for name, at in marks:
        _line(svg, (x.at(at.threshold), _TOP), (x.at(at.threshold), _HEIGHT - _BOTTOM), name)
        _text(svg, x.at(at.threshold), _TOP - 8, f"{name} {at.threshold:,}", anchor="middle")
    return Xml.tostring(svg, encoding="unicode") + "\n"


def _line(svg: Xml.Element, begin: tuple[float, float], end: tuple[float, float], css: str) -> None:
    places = {"x1": begin[0], "y1": begin[1], "x2": end[0], "y2": end[1]}
    Xml.SubElement(svg, "line", {"class": css, **{name: str(place) for name, place in places.items()}})


def _text(svg: Xml.Element, x: float, y: float, text: str, anchor: str = "start", css: str = "") -> None:
    Xml.SubElement(svg, "text", {"x": str(x), "y": str(y), "text-anchor": anchor, "class": css}).text = text
