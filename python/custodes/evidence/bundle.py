"""Bundles: all evidence about one finding in one file that can be verified anywhere, without the machine it is from.

A ZIP file. ``proof.json`` has the entries as in the log, the inclusion path of each, and the signed root of the log.
The other members present the entries for people and programs: ``report.html``, ``finding.json``, ``events.ndjson``,
``parts.ndjson`` if findings were counted, and ``rules/``. ``README.txt`` describes the verification, also by hand.
"""

from __future__ import annotations

import base64
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import jinja2

from custodes import __version__
from custodes._core import EvidenceLog, is_in_log, open_head
from custodes.evidence.entries import SALT, EventEntry, FindingEntry, PartEntry, RuleEntry, key_of, read
from custodes.evidence.verification import Discrepancy
from custodes.findings import rfc3339

FORMAT = "custodes-evidence-bundle/1"
_MOST_BYTES = 256 << 20
"""Largest unpacked size of a member."""
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""Earliest date of the ZIP format: equal evidence gives an equal file."""

_pages = jinja2.Environment(
    loader=jinja2.PackageLoader("custodes.evidence", "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


@dataclass(frozen=True)
class Contents:
    """The content of a bundle, sorted."""

    finding: FindingEntry
    """The latest state of the finding."""
    events: Sequence[EventEntry]
    """Events, earliest first."""
    rules: Sequence[RuleEntry]
    parts: Sequence[PartEntry]

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Contents:
        """Raises ``ValueError`` if no entry is a finding."""
        entries = [read(text) for text in texts]
        told = [entry for entry in entries if isinstance(entry, FindingEntry)]
        if not told:
            raise ValueError("there is no evidence about the finding")
        events = [entry for entry in entries if isinstance(entry, EventEntry)]
        events.sort(key=lambda event: (event.time, event.source, event.position))
        rules = [entry for entry in entries if isinstance(entry, RuleEntry)]
        return cls(told[-1], events, rules, [entry for entry in entries if isinstance(entry, PartEntry)])

    def files(self) -> dict[str, str]:
        """Returns the presentation of the entries, by file name."""
        rules = {f"rules/{number}.yml": rule.text for number, rule in enumerate(self.rules, 1)}
        parts = "".join(json.dumps(part.finding, ensure_ascii=False) + "\n" for part in self.parts)
        return {
            "finding.json": json.dumps(self.finding.finding, ensure_ascii=False, indent=2) + "\n",
            "events.ndjson": "".join(f"{event.record}\n" for event in self.events),
            **({"parts.ndjson": parts} if parts else {}),
            **rules,
        }


def export(log: EvidenceLog, finding_id: str, output: BinaryIO) -> int:
    """Writes the bundle of a finding and returns its number of events.

    Raises ``ValueError`` if the log has nothing about the finding, and ``OSError``.
    """
    entries = log.entries(key_of(finding_id))
    contents = Contents.of([entry[SALT:] for _, entry in entries])
    head, key = log.head, log.key
    opened = open_head([key], head or "")
    if opened is None:
        raise ValueError("the log has no head")
    proven = zip(entries, log.proofs([number for number, _ in entries]), strict=True)
    proof = {
        "format": FORMAT,
        "finding": finding_id,
        "key": key,
        "head": head,
        "entries": [
            {"number": number, "entry": _text(entry), "path": [_text(beside) for beside in path]}
            for (number, entry), path in proven
        ],
    }
    report = _pages.get_template("report.html").render(
        finding=contents.finding.finding, told=contents.finding, events=contents.events, rules=contents.rules,
        parts=contents.parts, key=key, head=head, signed_at=rfc3339(opened[2]),
        numbers=[number for number, _ in entries],
    )  # fmt: skip
    readme = _pages.get_template("README.txt").render(key=key, finding=finding_id, version=__version__)
    members = {
        "README.txt": readme,
        "report.html": report,
        "proof.json": json.dumps(proof, indent=1) + "\n",
        **contents.files(),
    }
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, text in members.items():
            bundle.writestr(zipfile.ZipInfo(name, _LONG_AGO), text, zipfile.ZIP_DEFLATED)
    return len(contents.events)


@dataclass(frozen=True)
class BundleCheck:
    """The result of a verification."""

    finding: dict[str, Any]
    events: int
    entries: int
    log: str
    """The public key that was used."""
    signed_at: str
    faults: Sequence[Discrepancy]

    def as_dict(self) -> dict[str, Any]:
        """Returns the public fields."""
        return vars(self) | {"faults": [vars(fault) for fault in self.faults]}


def check(path: Path, key: str | None = None) -> BundleCheck:
    """Verifies a bundle, with a given public key, otherwise with the key in the bundle.

    Raises ``ValueError`` for an invalid bundle or a signature by another key, and ``OSError``.
    """
    try:
        with zipfile.ZipFile(path) as bundle:
            members = {info.filename: _member(bundle, info) for info in bundle.infolist()}
        proof = json.loads(members["proof.json"])
        format_, head, in_it = proof["format"], str(proof["head"]), str(proof["key"])
        entries = [
            (int(one["number"]), _bytes(one["entry"]), [_bytes(beside) for beside in one["path"]])
            for one in proof["entries"]
        ]
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path} is not an evidence bundle: {error}") from error
    if format_ != FORMAT:
        raise ValueError(f"{path} is a bundle of another version: {format_}")
    opened = open_head([key or in_it], head)
    if opened is None:
        raise ValueError(f"{path}: the head is not signed by the key {key or in_it}")
    size, root, time = opened
    faults = [
        Discrepancy("proof.json", "the entry differs from the log", entries=(number, number))
        for number, entry, beside in entries
        if any(len(hash_) != len(root) for hash_ in beside) or not is_in_log(entry, number, beside, size, root)
    ]
    entries.sort(key=lambda one: one[0])
    contents = Contents.of([entry[SALT:] for _, entry, _ in entries])
    if contents.finding.events != len(contents.events):
        what = f"the log had {contents.finding.events} events of the finding, and the bundle has {len(contents.events)}"
        faults.append(Discrepancy("proof.json", what))
    if contents.finding.finding.get("id") != proof.get("finding"):
        faults.append(Discrepancy("proof.json", "the entries are about another finding"))
    for name, text in contents.files().items():
        if members.get(name) != text.encode():
            faults.append(Discrepancy(name, "the member differs from the entries"))
    return BundleCheck(
        contents.finding.finding, len(contents.events), len(entries), key or in_it, str(rfc3339(time)), faults
    )  # fmt: skip


def _member(bundle: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with bundle.open(info) as member:
        # The size in the header is not trusted.
        content = member.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"{info.filename} is larger than {_MOST_BYTES} bytes")
    return content


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
