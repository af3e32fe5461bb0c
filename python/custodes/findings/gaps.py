"""Gaps: records that were deleted from the source before they were read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from custodes.findings.model import rfc3339
from custodes.sources import StreamGap


@dataclass(frozen=True)
class MissedRecords:
    """A range of missed positions, for which findings may be missing."""

    place: str
    """Topic and partition, as JSON."""
    expected: int
    """Position that was to be read next."""
    position: int
    """Position that was read instead; below ``expected`` if the topic was recreated or its log truncated."""
    noticed_at: int
    """Microseconds since the epoch."""

    @classmethod
    def of(cls, gap: StreamGap, place: dict[str, str | int], noticed_at: int) -> MissedRecords:
        return cls(json.dumps(place, sort_keys=True), gap.expected, gap.position, noticed_at)

    def as_dict(self) -> dict[str, Any]:
        """Returns the public fields."""
        return {
            **json.loads(self.place),
            "from": self.expected,
            "until": self.position,
            "records": max(0, self.position - self.expected),
            "noticed_at": rfc3339(self.noticed_at),
        }
