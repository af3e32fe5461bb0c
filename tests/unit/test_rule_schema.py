"""The editor schema agrees with the compiler."""

from __future__ import annotations

from typing import Any

import yaml

from custodes.rules import shipped_pack
from custodes.rules.keys import CONDITION, CORRELATION, CUSTOM, METADATA, OF_KIND, OWN
from custodes.rules.schema import rule_schema


def unknown(value: Any, schema: dict[str, Any], place: str = "") -> list[str]:
    """Returns keys and enumeration values that the schema does not contain."""
    options = [option for option in schema.get("oneOf", []) if "properties" in option]
    if options and isinstance(value, dict) and "properties" not in schema:
        return unknown(value, options[0], place)
    if "enum" in schema and value not in schema["enum"]:
        return [f"{place}: {value}"]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    known = schema["properties"]
    strange = [
        f"{place}.{key}" for key in value if key not in known and schema.get("additionalProperties", True) is False
    ]
    return strange + [one for key in value if key in known for one in unknown(value[key], known[key], f"{place}.{key}")]


def test_the_shipped_rules_match_the_schema() -> None:
    schema = rule_schema()
    for path in shipped_pack():
        for document in yaml.safe_load_all(path.read_text()):
            assert unknown(document, schema) == [], path
            assert [key for key in schema["required"] if key not in document] == []
            assert set(document) <= set(schema["properties"])
            assert sum(kind in document for kind in ("detection", "correlation", "filter")) == 1


def test_it_knows_the_keys_that_the_compiler_knows() -> None:
    properties = rule_schema()["properties"]
    assert set(properties["custodes"]["properties"]) == set(OWN), "`_own` in rules/schema.py and `OWN` in rules/keys.py"
    assert set(properties["correlation"]["properties"]) == set(CORRELATION)
    assert set(properties["correlation"]["properties"]["condition"]["properties"]) == set(CONDITION)
    assert set(properties) == {*METADATA, *CUSTOM, *(key for keys in OF_KIND.values() for key in keys)}


def test_misspelt_keys_do_not_match_the_schema() -> None:
    schema = rule_schema()
    assert unknown({"custdoes": {}}, schema) == [".custdoes"]
    assert unknown({"custodes": {"keepopen": "1h"}}, schema) == [".custodes.keepopen"]
    assert unknown({"correlation": {"type": "value_summ"}}, schema) == [".correlation.type: value_summ"]
    assert unknown({"custodes": {"baseline": {"ovr": 3}}}, schema) == [".custodes.baseline.ovr"]
