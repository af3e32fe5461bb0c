"""Rule files: finding them, and reading their YAML documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from custodes.config import Document, Fault, FaultsError, load_documents

_SUFFIXES = {".yml", ".yaml"}


def is_test_file(path: Path) -> bool:
    """Returns whether a file contains tests of rules, by its name; no rules are loaded from it."""
    return path.name.endswith((".test.yml", ".test.yaml"))


@dataclass
class RuleDocuments:
    """The YAML documents of rule files, and the faults and warnings of reading them."""

    documents: list[Document] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)


def read_documents(paths: Iterable[Path]) -> RuleDocuments:
    """Reads files and directories (``*.yml``, ``*.yaml``, recursively) in order of path, without empty documents.

    A file without rules is a warning; it is a fault if no file has any.
    """
    read = RuleDocuments()
    for path in paths:
        files, not_found = _rule_files(path)
        read.faults += not_found
        for file in files:
            try:
                documents = [document for document in load_documents(file) if document.data is not None]
            except FaultsError as error:
                read.faults += error.faults
                continue
            read.documents += documents
            if not documents:
                read.warnings.append(Fault("no rules in this file", str(file), 1))
    if not read.documents and not read.faults:
        read.faults, read.warnings = read.warnings, []
    return read


def _rule_files(path: Path) -> tuple[list[Path], list[Fault]]:
    """Returns a file itself, or the rule files of a directory."""
    try:
        if not path.is_dir():
            return ([path], []) if path.exists() else ([], [Fault("no such file or directory", str(path))])
        files = sorted(file for file in _walk(path) if file.suffix in _SUFFIXES and not is_test_file(file))
    except OSError as error:
        return [], [Fault(f"cannot read: {error.strerror}", error.filename or str(path))]
    empty = [] if files else [Fault("no rule files (*.yml, *.yaml) in this directory", str(path))]
    return files, empty


def _walk(folder: Path) -> Iterator[Path]:
    """Yields all files below ``folder``. Unlike ``rglob``, this raises an error for an unreadable directory."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry)
        else:
            yield entry
