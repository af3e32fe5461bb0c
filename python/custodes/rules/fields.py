"""Fields of the event that a rule reads."""

from __future__ import annotations

from collections.abc import Iterator

from custodes.rules.conditions import Condition, field_of
from custodes.rules.model import FINDING_FIELDS, Rule
from custodes.rules.novelty import NewValues


def own_fields(rule: Rule, *, is_correlation: bool) -> dict[str, None]:
    """Returns the fields that a rule's own document names, in order, each once.

    A correlation's conditions are those of other documents.
    """
    fields = _counted(rule) if is_correlation else (*_tested(rule.when), *_counted(rule))
    return dict.fromkeys(fields)


def _tested(condition: Condition) -> Iterator[str]:
    if "field" in condition:
        test = condition["field"]["test"]
        name = field_of(condition["field"]["name"])
        yield from () if name is None else (name,)
        if isinstance(test, dict) and "same" in test:
            yield test["same"]["other"]
    elif "not" in condition:
        yield from _tested(condition["not"])
    else:
        for part in condition.get("all") or condition.get("any") or []:
            yield from _tested(part)


def _counted(rule: Rule) -> Iterator[str]:
    of_events = [branch.group_by for branch in rule.branches if "opened" not in branch.when]
    for fields in of_events if rule.branches else [rule.group_by]:
        yield from fields
    if of_events or not rule.branches:
        counted = rule.together or (rule.distinct, rule.measure.field if rule.measure else None)
        yield from (field for field in counted if field is not None and field not in FINDING_FIELDS)
    if isinstance(rule.sieve, NewValues):
        yield rule.sieve.field
    if rule.baseline is not None and rule.baseline.peers is not None:
        yield rule.baseline.peers
