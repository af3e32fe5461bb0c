"""SVG pictures without inline styles: the page's style sheet colours them, in light and dark mode."""

from __future__ import annotations

from xml.etree import ElementTree as Xml

from markupsafe import Markup

WIDTH = 720
"""Width of every picture in its own units; the page scales it."""


def picture(kind: str, label: str, height: float) -> Xml.Element:
    """Creates an empty picture. ``kind`` is its CSS class; ``label`` describes it for screen readers."""
    svg = Xml.Element("svg", {"class": kind, "viewBox": f"0 0 {WIDTH} {height:g}", "role": "img", "aria-label": label})
    Xml.SubElement(svg, "title").text = label
    return svg


def line(svg: Xml.Element, begin: tuple[float, float], end: tuple[float, float], css: str) -> Xml.Element:
    places = {"x1": begin[0], "y1": begin[1], "x2": end[0], "y2": end[1]}
    return Xml.SubElement(svg, "line", {"class": css, **{name: str(place) for name, place in places.items()}})


def text(svg: Xml.Element, x: float, y: float, text: str, anchor: str) -> None:
    Xml.SubElement(svg, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}).text = text


def finished(svg: Xml.Element) -> Markup:
    """Serialises a picture for a page."""
    return Markup(Xml.tostring(svg, encoding="unicode"))  # noqa: S704 - ElementTree has escaped it
