"""Loading of rules: the passes from files to compiled rules, and the faults of all of them.

Each pass is a function that returns a result and faults: :func:`read_documents` reads files, :func:`parse_documents`
parses them with pySigma, :func:`apply_filters` and :func:`apply_pipelines` apply filters and processing pipelines,
:func:`resolve_references` resolves references between rules, :func:`compile_rules` compiles them, and
:func:`validate_rules` has the engine validate the compiled set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from custodes.config import Fault, FaultsError
from custodes.rules.compile import CompiledRule, compile_rules
from custodes.rules.files import is_test_file, read_documents
from custodes.rules.filters import apply_filters
from custodes.rules.model import Rule
from custodes.rules.parse import is_pipeline, parse_documents
from custodes.rules.resolve import ResolvedRules, names_of, resolve_references
from custodes.rules.validate import validate_rules


def shipped_pack() -> Iterator[Path]:
    """Yields the rule files that are part of Custodes."""
    return _shipped("pack")


def own_rules() -> Iterator[Path]:
    """Yields the files of the rules on Custodes' own audit trail."""
    return _shipped("own")


def _shipped(folder: str) -> Iterator[Path]:
    with as_file(files("custodes.rules") / folder) as path:
        yield from sorted(file for file in path.rglob("*.yml") if not is_test_file(file))


@dataclass(frozen=True)
class LoadedRules:
    """The rules of some files, and warnings about the files."""

    rules: list[Rule]
    warnings: list[Fault]
    compiled: list[CompiledRule]
    """All rules and detections with their documents, those without findings of their own included."""


def load_rules(paths: Iterable[Path]) -> list[Rule]:
    """Returns the rules of files and directories, without warnings. Raises :class:`FaultsError`."""
    return read_rules(paths).rules


def read_rules(paths: Iterable[Path]) -> LoadedRules:
    """Loads rule files and directories (``*.yml``, ``*.yaml``, recursively), in order of path.

    Raises :class:`FaultsError` with all faults, each with file and line.
    """
    read = read_documents(paths)
    faults = read.faults
    pipelines = [document for document in read.documents if is_pipeline(document)]
    documents = [document for document in read.documents if not is_pipeline(document)]
    names = names_of(documents)
    parsed, parse_faults = parse_documents(documents)
    faults += parse_faults
    faults += apply_filters(parsed.rules, parsed.filters, names)
    changed = parsed.rules
    if pipelines:
        # Importing this takes a tenth of the start of a replay, and most rule sets have no pipeline.
        from custodes.rules.pipelines import apply_pipelines  # noqa: PLC0415

        changed, pipeline_faults = apply_pipelines(changed, pipelines)
        faults += pipeline_faults
    resolved, reference_faults = resolve_references(changed, names)
    compiled, compile_faults = compile_rules(resolved)
    rules, engine_faults = validate_rules(compiled)
    faults += [*reference_faults, *compile_faults, *engine_faults]
    if faults := faults or _lost(resolved, compiled):
        raise FaultsError(faults)
    position = {rule.id: index for index, rule in enumerate(resolved.rules)}
    return LoadedRules(sorted(rules, key=lambda rule: position[rule.id]), [*read.warnings, *parsed.warnings], compiled)


def _lost(resolved: ResolvedRules, compiled: Iterable[CompiledRule]) -> list[Fault]:
    """Returns a fault for each rule that no pass reports but that does not count."""
    counted = {candidate.rule.id for candidate in compiled}
    return [rule.document.fault("the rule has no effect") for rule in resolved.rules if rule.id not in counted]
