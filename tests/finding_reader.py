"""Changes of an engine's findings, read as a consumer reads them."""

from __future__ import annotations

import json
from typing import Any

import oracle
from custodes._core import FindingChange, Outcome


def lines(batch: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in batch)


def in_batches(stream: list[dict[str, Any]], cuts: list[int]) -> list[list[dict[str, Any]]]:
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {len(stream)})
    return [stream[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]


class FindingReader:
    """State of a reader of the changes: the latest state of each finding."""

    def __init__(self) -> None:
        self.latest: dict[str, FindingChange] = {}

    def take(self, outcome: Outcome) -> None:
        assert not outcome.rejects
        for change in outcome.changes:
            known = self.latest.get(change.id)
            if change.kind == "opened":
                assert known is None
            if known is not None:
                assert known.closed_at is None, "a closed finding changed"
            if change.kind == "merged":
                self.latest.pop(change.id)
                assert change.merged_into in {*self.latest, *(c.id for c in outcome.changes)}
            else:
                self.latest[change.id] = change

    def closed(self, width: int, rule: int = 0) -> list[oracle.OracleFinding]:
        result = []
        for change in self.latest.values():
            if change.rule != rule:
                continue
            assert change.closed_at is not None
            assert change.closed_at == change.held_until
            assert change.held_from % width == 0
            result.append(
                oracle.OracleFinding(
                    tuple(change.group),
                    change.held_from // width,
                    change.opened_at,
                    change.closed_at,
                    change.peak,
                    change.count,
                )
            )
        return sorted(result)
