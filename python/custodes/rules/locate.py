"""Location of Sigma errors: pySigma names the document, this module finds the line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sigma import exceptions as sigma
from sigma.modifiers import modifier_mapping

from custodes.config import Document
from custodes.config.yamldoc import YamlKey, YamlPath

_PLACES: list[tuple[type[sigma.SigmaError], YamlPath]] = [
    (sigma.SigmaTimespanError, ("correlation", "timespan")),
    (sigma.SigmaCorrelationConditionError, ("correlation", "condition")),
    (sigma.SigmaCorrelationTypeError, ("correlation", "type")),
    (sigma.SigmaCorrelationRuleError, ("correlation",)),
    (sigma.SigmaConditionError, ("detection", "condition")),
    (sigma.SigmaRegularExpressionError, ("detection",)),
    (sigma.SigmaDetectionError, ("detection",)),
    (sigma.SigmaLogsourceError, ("logsource",)),
    (sigma.SigmaIdentifierError, ("id",)),
    (sigma.SigmaLevelError, ("level",)),
    (sigma.SigmaStatusError, ("status",)),
    (sigma.SigmaDateError, ("date",)),
    (sigma.SigmaModifiedError, ("modified",)),
    (sigma.SigmaTagError, ("tags",)),
    (sigma.SigmaTitleError, ("title",)),
    (sigma.SigmaFilterError, ("filter",)),
]


def place_of(error: sigma.SigmaError, document: Document) -> YamlPath:
    """Returns the place of a pySigma error in the document, as precisely as the error allows."""
    if isinstance(error, sigma.SigmaModifierError):
        return next(_bad_modifiers(document), ("detection",))
    return next((place for kind, place in _PLACES if isinstance(error, kind)), ())


def field_place(document: Document, field: str) -> YamlPath:
    """Returns the first place where a detection names ``field``, or where a correlation groups by it or counts it."""
    if "correlation" in document.data:
        return next(_places_of(document, field, ("correlation", "custodes")), ("correlation", "group-by"))
    key_places = (place for place, key in _keys(document) if key.split("|")[0] == field)
    return next(key_places, next(_places_of(document, field, ("detection", "custodes")), ("detection",)))


def _places_of(document: Document, field: str, within: Sequence[str]) -> Iterator[YamlPath]:
    """Yields the places of values that are the name of a field."""
    for place in document.lines:
        if place[0] in within and _value_at(document.data, place) == field:
            yield place


def _value_at(value: Any, place: YamlPath) -> Any:
    for key in place:
        value = value[key]
    return value


def _bad_modifiers(document: Document) -> Iterator[YamlPath]:
    for place, key in _keys(document):
        if any(modifier not in modifier_mapping for modifier in key.split("|")[1:]):
            yield place
    # All modifiers are known, so one is misused; the first key with modifiers is the best guess.
    yield from (place for place, key in _keys(document) if "|" in key)


def _keys(document: Document) -> Iterator[tuple[tuple[YamlKey, ...], str]]:
    """Yields the field keys of all detections, in file order."""
    for place in document.lines:
        if len(place) > 2 and place[0] == "detection" and isinstance(place[-1], str):
            yield place, place[-1]
