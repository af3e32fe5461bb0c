"""Labels: what is known to be true of events that have been, for a rule to be judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from custodes.config import Fault, FaultsError
from custodes.findings import Finding

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Label(BaseModel):
    """Somebody who should have been found, and when they took each record."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = Field(description="What they did, in a few words.")
    group: dict[str, str] = Field(min_length=1, description='Whom a finding must be of, e.g. {"actor": "P0042"}.')
    times: list[AwareDatetime] = Field(min_length=1, description="When each record was taken.")

    def judged_by(self, findings: Sequence[Finding]) -> LabelOutcome:
        """Whether some finding, of this group and of that time, found it."""
        times = sorted((time - _EPOCH) // timedelta(microseconds=1) for time in self.times)
        those = [
            finding.opened_at
            for finding in findings
            if self.group.items() <= finding.group.items()
            and finding.opened_at <= times[-1]
            and finding.held_until >= times[0]
        ]
        opened_at = min(those, default=None)
        taken = len(times) if opened_at is None else sum(time <= opened_at for time in times)
        return LabelOutcome(self, opened_at, taken)


@dataclass(frozen=True)
class LabelOutcome:
    """What a rule made of a label."""

    label: Label
    opened_at: int | None
    """When the first finding opened, in microseconds since the epoch; ``None`` where there is none."""
    taken: int
    """Records that were taken by then: all of them where nothing was found."""


def read_labels(path: Path) -> list[Label]:
    """Reads labels, one JSON object a line. Raises :class:`FaultsError` with every fault."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FaultsError([Fault(f"cannot read: {error}", str(path))]) from error
    labels, faults = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            labels.append(Label.model_validate_json(line))
        except ValidationError as error:
            for detail in error.errors():
                dotted = ".".join(map(str, detail["loc"]))
                faults.append(Fault(f"{dotted}: {detail['msg']}" if dotted else detail["msg"], str(path), number))
    if faults:
        raise FaultsError(faults)
    return labels
