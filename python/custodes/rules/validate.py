"""Validation by the engine, which alone knows its regular expressions, paths and limits.

A sound rule set takes one validation. After an error the rule is removed, together with the rules that depend on it,
and the rest is validated again, so that all faults are found. The location of a fault comes from the attributes of
:class:`~custodes._core.PlanError`, never from its message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from custodes._core import Engine, PlanError
from custodes.config import Document, Fault
from custodes.config.mapping import Mapping
from custodes.rules.compile import CompiledRule
from custodes.rules.conditions import KEYWORD, field_of
from custodes.rules.locate import field_place
from custodes.rules.model import Rule
from custodes.rules.plan import build_plan

_MAPPING = Mapping({"time": ["time"], "actor": ["actor"]})
_Error = tuple[CompiledRule, PlanError]


def validate_rules(compiled: Sequence[CompiledRule]) -> tuple[list[Rule], list[Fault]]:
    """Returns the rules that the engine accepts, and the faults of the others.

    Rules must follow the ones they depend on. The engine checks them in order, so it reports a fault of a condition for
    the detection that contains it.
    """
    remaining = list(compiled)
    faults: list[Fault] = []
    while (error := _error_of([candidate.rule for candidate in remaining])) is not None:
        wrong = [(candidate, error) for candidate in remaining if candidate.rule.id == error.rule] or _validate_each(
            remaining
        )
        if not wrong:
            faults.append(Fault(error.problem))
            break
        faults += [plan_fault(problem, candidate.document) for candidate, problem in wrong]
        remaining = _without(remaining, {candidate.rule.id for candidate, _ in wrong})
    return [candidate.rule for candidate in remaining if not candidate.is_probe], faults


def plan_fault(error: PlanError, document: Document) -> Fault:
    """Returns the engine's error as a fault of a rule's file, at the field that it concerns."""
    if error.field is None:
        return document.fault(error.problem)
    field = field_of(error.field)
    name = f"keyword '{error.field.removeprefix(KEYWORD)}'" if field is None else f"field '{field}'"
    return document.fault(f"{name}: {error.problem}", *field_place(document, error.field if field is None else field))


def _error_of(rules: Sequence[Rule]) -> PlanError | None:
    try:
        Engine(build_plan(rules, _MAPPING))
    except PlanError as error:
        return error
    return None


def _validate_each(compiled: Sequence[CompiledRule]) -> list[_Error]:
    """Validates rules one by one, for an error that names no rule. Skips rules that depend on a wrong one."""
    rules = [candidate.rule for candidate in compiled]
    wrong: list[_Error] = []
    for candidate in compiled:
        if candidate.depends_on.isdisjoint(other.rule.id for other, _ in wrong):
            error = _error_of(candidate.rule.with_followed(rules))
            if error is not None:
                wrong.append((candidate, error))
    return wrong


def _without(compiled: Iterable[CompiledRule], removed: set[str]) -> list[CompiledRule]:
    """Returns the rules that are not removed and depend on no removed rule."""
    remaining = []
    for candidate in compiled:
        if candidate.rule.id in removed or not candidate.depends_on.isdisjoint(removed):
            removed = removed | {candidate.rule.id}
        else:
            remaining.append(candidate)
    return remaining
