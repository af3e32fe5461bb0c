"""What was never seen: records that were gone from the source before they were read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from custodes.findings.model import rfc3339
from custodes.sources import StreamGap


@dataclass(frozen=True)
class MissedRecords:
    """A run of positions, beside the findings that may be missing for it."""

    place: str
    """Topic and partition, as JSON."""
    expected: int
    """The position that was to be read next."""
    position: int
    """The one that was: not above ``expected`` where the source had become shorter and was read anew."""
    noticed_at: int
    """Microseconds since the epoch."""

    @classmethod
    def of(cls, gap: StreamGap, place: dict[str, str | int], noticed_at: int) -> MissedRecords:
        return cls(json.dumps(place, sort_keys=True), gap.expected, gap.position, noticed_at)

    def as_dict(self) -> dict[str, Any]:
        """The public fields."""
        return {
            **json.loads(self.place),
            "from": self.expected,
            "until": self.position,
            "records": max(0, self.position - self.expected),
            "noticed_at": rfc3339(self.noticed_at),
        }
