"""Rule files: finding them, and reading their YAML documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from custodes.config import Document, Fault, FaultsError, load_documents

_SUFFIXES = {".yml", ".yaml"}


def is_test_file(path: Path) -> bool:
    """Returns whether a file contains tests of rules, by its name; no rules are loaded from it."""
    return path.name.endswith((".test.yml", ".test.yaml"))


def read_documents(paths: Iterable[Path]) -> tuple[list[Document], list[Fault]]:
    """Reads files and directories (``*.yml``, ``*.yaml``, recursively) in order of path, without empty documents."""
    documents: list[Document] = []
    faults: list[Fault] = []
    for path in paths:
        files, not_found = _rule_files(path)
        faults += not_found
        for file in files:
            try:
                documents += [document for document in load_documents(file) if document.data is not None]
            except FaultsError as error:
                faults += error.faults
    return documents, faults


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
