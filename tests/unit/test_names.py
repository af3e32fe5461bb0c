"""One type name has one meaning: no name is defined in two files but a class of the engine and its Python mirror."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

_BINDING = "a class of the engine, its binding, and its stub"
_PLAN = "a part of the plan, which Python writes and the engine reads"

MIRRORS: dict[str, str] = {
    **dict.fromkeys(
        (
            "Dropped", "Engine", "Evicted", "EvictedCounts", "EvidenceFault", "EvidenceLog", "EvidenceReport",
            "FetchedPiece", "FindingChange", "GroupStatus", "Keyring", "OrphanedFinding", "Outcome", "PlanError",
            "Recording", "Reject", "RepartitionBatch", "Restored", "RuleStats", "Stats", "StoredFile", "TableError",
            "Tables",
        ),
        _BINDING,
    ),
    **dict.fromkeys(("BaselineOf", "Branch", "Derivation", "IdentityForm", "LetterCase", "TimePart", "Way"), _PLAN),
    "Finding": "a run of panes at which a condition holds: in the engine, and as people triage it",
}  # fmt: skip
"""Names that stand in several files on purpose, with the reason."""


def python_types(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            yield node.name


def rust_types(text: str) -> Iterator[str]:
    yield from re.findall(
        r"^(?:pub(?:\([^)]*\))? )?(?:struct|enum|trait|union|type) (\w+)[^;=]*[{;(<=]", text, re.MULTILINE
    )


def definitions() -> dict[str, set[str]]:
    """Files by the names of the types they define; without tests, benchmarks and migrations, which stand alone."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(
        [*ROOT.glob("python/custodes/**/*.py"), *ROOT.glob("rust/*/src/**/*.rs"), ROOT / "python/custodes/_core.pyi"]
    ):
        text = path.read_text(encoding="utf-8")
        for name in rust_types(text) if path.suffix == ".rs" else python_types(text):
            found[name].add(str(path.relative_to(ROOT)))
    return found


def test_no_type_name_is_defined_in_two_files() -> None:
    repeated = {name: sorted(files) for name, files in definitions().items() if len(files) > 1 and name not in MIRRORS}
    assert repeated == {}


def test_each_listed_mirror_is_still_one() -> None:
    defined = definitions()
    assert [name for name in MIRRORS if len(defined[name]) < 2] == []
