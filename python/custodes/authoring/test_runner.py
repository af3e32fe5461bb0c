"""Test runner for rules: events through the engine itself, findings compared with the expected ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from custodes._core import Engine, Reject, Tables
from custodes.authoring.test_files import ExpectedFinding, RuleTestCase, RuleTests
from custodes.config import Document, Fault, FaultsError, format_duration, load_documents
from custodes.config.faults import did_you_mean
from custodes.config.load import anchored_mapping, validation_faults
from custodes.config.mapping import Mapping, load_mapping
from custodes.findings import Finding, FindingAccumulator
from custodes.rules import Rule, build_plan, load_rules
from custodes.rules.files import is_test_file
from custodes.sources.lookup_tables import inline


@dataclass(frozen=True)
class RuleTestResult:
    """Result of one test."""

    file: str
    line: int
    name: str
    failures: Sequence[str]
    """Differences, one per line; empty for a passed test."""

    def as_dict(self) -> dict[str, object]:
        return {**vars(self), "failures": list(self.failures)}


def find_test_files(paths: Iterable[Path]) -> list[Path]:
    """Returns the test files among and below ``paths``. Raises :class:`FaultsError` for a path without any."""
    found: list[Path] = []
    for path in paths:
        below = sorted(one for one in path.rglob("*") if is_test_file(one)) if path.is_dir() else [path]
        if not below:
            raise FaultsError([Fault("no test files (*.test.yml) in this directory", str(path))])
        found += below
    return found


def run_tests(path: Path) -> Iterator[RuleTestResult]:
    """Runs the tests of a file, in order. Raises :class:`FaultsError` for an unreadable file or unreadable rules."""
    document, tests = _load(path)
    rules = load_rules(path.parent / rule for rule in tests.rules)
    _check_names(document, tests, rules)
    mapping = load_mapping(anchored_mapping(tests.mapping, path.parent))
    plan, tables = build_plan(rules, mapping), _tables(document, tests, mapping)
    for at, case in enumerate(tests.tests):
        findings, rejects = _run(plan, tables, rules, case)
        failures = []
        if len(rejects) != case.rejected:
            failures = [f"an event was rejected: {reject.reason}: {reject.detail}" for reject in rejects]
            if case.rejected:
                failures.append(f"{len(rejects):,} events were rejected, expected {case.rejected:,}")
        failures += _compare(case, findings, rules)
        yield RuleTestResult(document.file, document.line_of("tests", at), case.name, failures)


def _load(path: Path) -> tuple[Document, RuleTests]:
    documents = load_documents(path)
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        raise FaultsError([Fault("must be one YAML mapping with rules and tests", str(path), 1)])
    try:
        return documents[0], RuleTests(**{str(key): value for key, value in documents[0].data.items()})
    except ValidationError as error:
        raise FaultsError(validation_faults(documents[0], error, RuleTests)) from error


def _check_names(document: Document, tests: RuleTests, rules: Sequence[Rule]) -> None:
    known = {name for rule in rules for name in (rule.title, rule.id)}
    faults = [
        document.fault(f"no rule '{one.rule}'", "tests", at, "findings", number, "rule",
                       hint=did_you_mean(one.rule, [rule.title for rule in rules]))
        for at, case in enumerate(tests.tests)
        for number, one in enumerate(case.findings)
        if one.rule not in known
    ]  # fmt: skip
    if faults:
        raise FaultsError(faults)


def _tables(document: Document, tests: RuleTests, mapping: Mapping) -> Tables:
    tables, uses = Tables(), list(mapping.table_uses())
    for name, csv in inline(tests.tables):
        for use in uses:
            if use.table == name:
                try:
                    tables.put(name, csv, use.forms, use.value, bytes(16))
                except ValueError as error:
                    raise FaultsError([document.fault(str(error).partition(": ")[2], "tables", name)]) from error
        if name not in {use.table for use in uses}:
            raise FaultsError([document.fault(f"no derived field uses a table '{name}'", "tables", name)])
    return tables


def _run(plan: str, tables: Tables, rules: Sequence[Rule], case: RuleTestCase) -> tuple[list[Finding], list[Reject]]:
    engine, ledger = Engine(plan), FindingAccumulator(rules)
    engine.use_tables(tables)
    rejects: list[Reject] = []
    for batch in case.batches():
        outcome = engine.process_lines(batch)
        ledger.apply(outcome.changes)
        rejects += outcome.rejects
    ledger.apply(engine.finish().changes)
    return ledger.findings(), rejects


def _compare(case: RuleTestCase, findings: Sequence[Finding], rules: Sequence[Rule]) -> Iterator[str]:
    left = list(findings)
    titles = {rule.id: rule.title for rule in rules}
    for one in case.findings:
        title = titles.get(one.rule, one.rule)
        same = [finding for finding in left if finding.rule == title and one.group in (finding.group, finding.shown)]
        if not same:
            yield f"not found: {title}, {_group(one.group)}"
            continue
        # With several candidates, the best match gives the most helpful message.
        nearest = min(same, key=lambda finding: len(list(_differences(case, one, finding))))
        left.remove(nearest)
        for difference in _differences(case, one, nearest):
            yield f"{title}, {_group(one.group)}: {difference}"
    for finding in left:
        opened = format_duration(case.since_start(finding.opened_at))
        yield f"not expected: {finding.rule}, {_group(finding.shown)}, opened {opened} in, peak {finding.peak}"


def _differences(case: RuleTestCase, expected: ExpectedFinding, finding: Finding) -> Iterator[str]:
    opened = case.since_start(finding.opened_at)
    if expected.opened is not None and expected.opened != opened:
        yield f"opened after {format_duration(opened)}, expected {format_duration(expected.opened)}"
    for name in ("peak", "count"):
        wanted, is_ = getattr(expected, name), getattr(finding, name)
        if wanted is not None and wanted != is_:
            yield f"{name} is {is_:,}, expected {wanted:,}"


def _group(group: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in group.items()) or "everything"
