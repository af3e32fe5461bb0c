"""The network around an actor: the most viewed records, and the other actors who viewed them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as Xml

from markupsafe import Markup

from custodes.console.charts.svg import finished, line, picture, text
from custodes.console.localization import say
from custodes.history import History

_SUBJECTS = 6
_OTHERS = 8
_STEP, _TOP = 34, 24
_SELF, _MIDDLE, _RIGHT = 110, 360, 610
"""Horizontal positions of the three columns."""
_HALF = 66
"""Half the width reserved for a name."""


@dataclass(frozen=True)
class SharedSubject:
    """One record, and the other actors who viewed it."""

    subject: str
    looks: int
    """Number of views by the actor."""
    others: list[tuple[str, int]]
    """Other actors with their number of views, highest first."""


def network(
    history: History, actor: str, subjects: Sequence[tuple[str, int]], within: Sequence[str]
) -> list[SharedSubject]:
    """Returns the actor's most viewed subjects with their other viewers; ``subjects`` has the number of views each."""
    chosen = subjects[:_SUBJECTS]
    lookers = history.lookers([subject for subject, _ in chosen], within) if chosen else {}
    return [
        SharedSubject(subject, looks, [(one, count) for one, count in lookers[subject] if one != actor][:_OTHERS])
        for subject, looks in chosen
    ]


def network_picture(actor: str, shared: Sequence[SharedSubject], pseudonym: Callable[[str, str], str]) -> Markup:
    """Draws the actor, the records and their other viewers; the line width shows the number of views."""
    if not shared:
        return Markup("")
    most: Counter[str] = Counter()
    for one in shared:
        most.update(dict(one.others))
    others = [name for name, _ in most.most_common(_OTHERS)]
    rows = max(len(shared), len(others), 1)
    height = _TOP * 2 + (rows - 1) * _STEP
    label = say(
        "The %(subjects)s most viewed records, and %(others)s other actors who viewed them",
        subjects=len(shared), others=len(others),
    )  # fmt: skip
    svg = picture("network", label, height)

    def y(at: int, count: int) -> float:
        return round(height / 2 + (at - (count - 1) / 2) * _STEP, 1)

    middle = height / 2
    for at, one in enumerate(shared):
        here = y(at, len(shared))
        _edge(svg, (_SELF + _HALF, middle), (_MIDDLE - _HALF, here), one.looks)
        for name, looks in one.others:
            if name in others:
                _edge(svg, (_MIDDLE + _HALF, here), (_RIGHT - _HALF, y(others.index(name), len(others))), looks)
    text(svg, _SELF, middle + 4, pseudonym("actor", actor), "middle")
    for at, one in enumerate(shared):
        text(svg, _MIDDLE, y(at, len(shared)) + 4, pseudonym("subject", one.subject), "middle")
    for at, name in enumerate(others):
        text(svg, _RIGHT, y(at, len(others)) + 4, pseudonym("actor", name), "middle")
    return finished(svg)


def _edge(svg: Xml.Element, begin: tuple[float, float], end: tuple[float, float], looks: int) -> None:
    drawn = line(svg, begin, end, "edge")
    drawn.set("stroke-width", f"{1 + 2 * math.log10(max(looks, 1)):.1f}")
