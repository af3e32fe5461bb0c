"""Loading Sigma rule files: read, parse, compile, or say what is wrong and where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.resources import as_file, files
from pathlib import Path

from custodes.config import Document, Fault, FaultsError, load_documents
from custodes.rules.compile import compile_rules
from custodes.rules.model import Rule
from custodes.rules.parse import apply_filters, is_pipeline, is_test_file, names_of, parse, rule_files


def shipped_pack() -> Iterator[Path]:
    """The rule files that come with Custodes."""
    return _shipped("pack")


def own_rules() -> Iterator[Path]:
    """The rule files by which Custodes watches its own users."""
    return _shipped("own")


def _shipped(folder: str) -> Iterator[Path]:
    with as_file(files("custodes.rules") / folder) as path:
        yield from sorted(file for file in path.rglob("*.yml") if not is_test_file(file))


def load_rules(paths: Iterable[Path]) -> list[Rule]:
    """Loads rule files and directories (``*.yml``, ``*.yaml``, recursively), in order of path.

    Raises :class:`FaultsError` with every fault found, each with file and line.
    """
    faults: list[Fault] = []
    documents: list[Document] = []
    for path in rule_files(paths, faults):
        try:
            documents.extend(document for document in load_documents(path) if document.data is not None)
        except FaultsError as error:
            faults.extend(error.faults)
    pipelines = [document for document in documents if is_pipeline(document)]
    documents = [document for document in documents if not is_pipeline(document)]
    parsed, filters = parse(documents, faults)
    apply_filters(parsed, filters)
    if pipelines:
        from custodes.rules.pipelines import apply_pipelines  # noqa: PLC0415 - a tenth of a replay's start, and most have none

        parsed = apply_pipelines(parsed, pipelines, faults)
    rules = compile_rules(parsed, names_of(documents), faults)
    if faults:
        raise FaultsError(faults)
    return rules
