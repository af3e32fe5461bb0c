"""Plots for the page, as self-contained SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as Xml

_COLOURS = ("#0550ae", "#9a6700", "#8250df", "#57606a")
_STYLE = "svg { font: 13px system-ui, sans-serif; background: #fff } text { fill: #1b1f24 }"


def _picture(width: int, height: int, title: str) -> Xml.Element:
    svg = Xml.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}", role="img")
    Xml.SubElement(svg, "title").text = title
    Xml.SubElement(svg, "style").text = _STYLE
    _text(svg, 12, 24, title, weight="600")
    return svg


def bars(title: str, shares: Mapping[str, Mapping[str, float]]) -> str:
    """Draws a bar for each share, by method and kind."""
    kinds = list(next(iter(shares.values())))
    row, left, full = 14 * len(shares) + 16, 150, 480
    svg = _picture(left + full + 60, 90 + row * len(kinds), title)
    for at, method in enumerate(shares):
        _bar(svg, 12 + 165 * at, 38, 10, _COLOURS[at])
        _text(svg, 28 + 165 * at, 48, method)
    for number, kind in enumerate(kinds):
        top = 70 + row * number
        _text(svg, 12, top + 24, kind)
        for at, (method, by_kind) in enumerate(shares.items()):
            _bar(svg, left, top + 14 * at, max(2, full * by_kind[kind]), _COLOURS[at], f"{method}: {by_kind[kind]:.0%}")
            _text(svg, left + 6 + full * by_kind[kind], top + 10 + 14 * at, f"{by_kind[kind]:.0%}", size="11px")
    return Xml.tostring(svg, encoding="unicode") + "\n"


def curve(title: str, cases: Sequence[tuple[int, int]]) -> str:
    """Draws a bar for each case: the share of records taken before the finding."""
    svg = _picture(700, 60 + 22 * len(cases), title)
    for at, (gone, of) in enumerate(cases):
        top = 44 + 22 * at
        _bar(svg, 12, top, 500, "#d0d7de")
        _bar(svg, 12, top, max(2, 500 * gone / of), _COLOURS[0])
        _text(svg, 522, top + 10, f"{gone:,} of {of:,} ({gone / of:.1%})", size="11px")
    return Xml.tostring(svg, encoding="unicode") + "\n"


def _bar(svg: Xml.Element, x: float, y: float, width: float, colour: str, tip: str = "") -> None:
    bar = Xml.SubElement(svg, "rect", x=f"{x:.1f}", y=f"{y:.1f}", width=f"{width:.1f}", height="10", fill=colour)
    if tip:
        Xml.SubElement(bar, "title").text = tip


def _text(svg: Xml.Element, x: float, y: float, text: str, **style: str) -> None:
    names = {"weight": "font-weight", "size": "font-size"}
    Xml.SubElement(
        svg, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", **{names[k]: v for k, v in style.items()}}
    ).text = text
