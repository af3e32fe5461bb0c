"""JSON Schema of rule files, for editors: the supported part of Sigma, and Custodes' extensions."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from custodes.config.section import Duration
from custodes.rules.baseline import Baseline
from custodes.rules.correlation_shape import TYPES
from custodes.rules.keys import CUSTOM, CUSTOM_PREFIXES, LOGSOURCE, OPERATORS
from custodes.rules.model import LEVELS
from custodes.rules.novelty import NewValues

_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_SPAN = TypeAdapter(Duration).json_schema()
_SIGMA_SPAN = {"type": "string", "pattern": r"^\d+[smhdwMQYy]$", "examples": ["1h", "7d"]}


def rule_schema() -> dict[str, Any]:
    """Returns the schema of one document of a rule file: a detection, a correlation or a filter."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A rule for Custodes",
        "type": "object",
        "required": ["title"],
        "additionalProperties": False,
        "patternProperties": {f"^({'|'.join(CUSTOM_PREFIXES)})": {}},
        "oneOf": [{"required": ["detection"]}, {"required": ["correlation"]}, {"required": ["filter"]}],
        "properties": {
            "title": {**_TEXT, "maxLength": 256, "description": "Name of the rule in metrics and alerts."},
            "id": {
                **_TEXT,
                "format": "uuid",
                "description": "Identity of the rule's findings; it should never change.",
            },
            "name": {**_TEXT, "description": "Name that correlations use to refer to the rule."},
            "status": {"enum": ["stable", "test", "experimental", "deprecated", "unsupported"]},
            "level": {"enum": list(LEVELS)},
            "description": _TEXT,
            "author": _TEXT,
            "date": _TEXT,
            "modified": _TEXT,
            "references": _TEXTS,
            "related": {"type": "array"},
            "taxonomy": _TEXT,
            "license": _TEXT,
            "scope": _TEXTS,
            "tags": _TEXTS,
            "falsepositives": _TEXTS,
            "fields": _TEXTS,
            "logsource": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": False,
                "properties": dict.fromkeys(LOGSOURCE, _TEXT),
            },
            "generate": {
                "type": "boolean",
                "description": "Whether the rule has findings of its own although a correlation counts it.",
            },
            "detection": _DETECTION,
            "correlation": _CORRELATION,
            "filter": {"type": "object"},
            "custodes": _own(),
            **{key: {} for key in CUSTOM},
        },
    }


_DETECTION = {
    "type": "object",
    "required": ["condition"],
    "properties": {"condition": {"oneOf": [_TEXT, _TEXTS]}},
    "additionalProperties": {"type": ["object", "array", "string"]},
}
_CORRELATION = {
    "type": "object",
    "required": ["type", "timespan"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": list(TYPES)},
        "rules": {"oneOf": [_TEXT, _TEXTS], "description": "Names or ids of rules, detections or correlations."},
        "generate": {"type": "boolean", "description": "Whether the referenced rules have findings of their own, too."},
        "aliases": {
            "type": "object",
            "description": "Names for group-by, with the field of each rule.",
            "additionalProperties": {"type": "object", "additionalProperties": _TEXT},
        },
        "group-by": {
            **_TEXTS,
            "description": "Fields whose values identify a group; without them, all events are one group.",
        },
        "timespan": {**_SIGMA_SPAN, "description": "The window's length."},
        "condition": {
            "type": ["object", "string"],
            "description": "Bounds; for temporal and temporal_ordered also an expression over the names of the rules.",
            "additionalProperties": False,
            "properties": {
                "field": {**_TEXT, "description": "The field whose values are counted or measured."},
                "percentile": {"type": "integer", "minimum": 0, "maximum": 100},
                **{operator: {"type": "number"} for operator in OPERATORS},
            },
        },
    },
}


def _own() -> dict[str, Any]:
    new = NewValues.model_json_schema()
    # The counted field is the default.
    new["required"] = [name for name in new.get("required", []) if name != "field"]
    return {
        "type": "object",
        "description": "Extensions of Custodes.",
        "additionalProperties": False,
        "properties": {
            "keep_open": {
                **_SPAN,
                "description": "Largest gap between periods that are one finding; default: the timespan.",
            },
            "resolution": {**_SPAN, "description": "Pane length; default: timespan / 600, at least 1s."},
            "baseline": Baseline.model_json_schema(
                ref_template="#/properties/custodes/properties/baseline/$defs/{model}"
            ),
            "new": {"oneOf": [{"const": True}, new]},
            "dormant": {**_SPAN, "description": "Counts only groups that were silent for longer."},
            "tuning": {**_TEXT, "description": "How to adapt the rule to an organisation."},
            "runbook": {**_TEXT, "description": "Page that describes the response to a finding."},
        },
    }
