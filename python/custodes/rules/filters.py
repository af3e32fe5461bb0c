"""Sigma's filters: further conditions for the detections that they name. A filter without effect is an error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy

from sigma.exceptions import SigmaError

from custodes.config import Fault
from custodes.config.faults import did_you_mean
from custodes.rules.metadata import normal_reference
from custodes.rules.parse import ParsedFilter, ParsedRule, cause_of, sigma_fault

_ANY = "any"


def apply_filters(rules: Sequence[ParsedRule], filters: Sequence[ParsedFilter], names: set[str]) -> list[Fault]:
    """Adds the conditions of filters to the detections that they name. ``names`` contains rules with faults, too."""
    by_name = {name: rule for rule in rules for name in rule.references}
    faults: list[Fault] = []
    for parsed in filters:
        if condition_faults := list(_condition_faults(parsed)):
            faults += condition_faults
            continue
        targets, target_faults = _targets(parsed, rules, by_name, names)
        faults += target_faults
        for rule in targets:
            faults += _apply(parsed, rule)
    return faults


def _condition_faults(parsed: ParsedFilter) -> Iterator[Fault]:
    """Yields the fault of the filter's own condition. pySigma would report it for each rule that the filter names."""
    for name in parsed.sigma.filter.detections:
        if not name[:1].isalpha():
            yield parsed.document.fault(f"the name '{name}' does not begin with a letter", "filter", name)
            return
    try:
        # Parsing links the selections to each other.
        for condition in deepcopy(parsed.sigma.filter).parsed_condition:
            _ = condition.parsed
    except SigmaError as error:
        yield parsed.document.fault(str(error.args[0]).rstrip("."), "filter", "condition")
    except Exception as error:  # pySigma raises other errors for some values
        yield parsed.document.fault(f"not a condition: {cause_of(error)}", "filter", "condition")


def _targets(
    parsed: ParsedFilter, rules: Sequence[ParsedRule], by_name: Mapping[str, ParsedRule], names: set[str]
) -> tuple[list[ParsedRule], list[Fault]]:
    """Returns the detections that a filter applies to."""
    document, named = parsed.document, parsed.sigma.filter.rules
    if named == _ANY or not isinstance(named, list):
        covered = [rule for rule in rules if not rule.is_correlation and _covers(parsed, rule)]
        problem = "the filter has no effect: no detection has this log source"
        return covered, [] if covered else [document.fault(problem, "logsource")]
    targets: list[ParsedRule] = []
    faults: list[Fault] = []
    has_list = isinstance(document.data["filter"]["rules"], list)
    for index, reference in enumerate(named):
        name = normal_reference(reference.reference)
        place = ("filter", "rules", index) if has_list else ("filter", "rules")
        rule = by_name.get(name)
        if rule is None:
            if name not in names:
                faults.append(document.fault(f"no rule '{name}'", *place, hint=did_you_mean(name, names)))
        elif rule.is_correlation:
            hint = "name the detections that it counts"
            problem = f"'{name}' is a correlation, and filters apply to detections"
            faults.append(document.fault(problem, *place, hint=hint))
        elif rule in targets:
            faults.append(document.fault(f"'{name}' is named twice", *place))
        elif not _covers(parsed, rule):
            problem = f"the log source of the filter does not include that of '{name}'"
            faults.append(document.fault(problem, "logsource"))
        else:
            targets.append(rule)
    return targets, faults


def _covers(parsed: ParsedFilter, rule: ParsedRule) -> bool:
    return rule.logsource is not None and rule.logsource in parsed.sigma.logsource


def _apply(parsed: ParsedFilter, rule: ParsedRule) -> list[Fault]:
    everywhere = deepcopy(parsed.sigma)
    everywhere.filter.rules = _ANY
    try:
        everywhere.apply_on_rule(rule.sigma)
    except SigmaError as error:
        return [sigma_fault(error, parsed.document)]
    except Exception as error:  # pySigma raises other errors for some values
        return [parsed.document.fault(f"cannot be applied to '{rule.title}': {cause_of(error)}", "filter")]
    return []
