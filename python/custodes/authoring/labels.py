"""Labels: known facts about recorded events, by which rules are judged."""

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
    """An insider who should be found, with the time of each taken record."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = Field(description="Short description of the acts.")
    group: dict[str, str] = Field(min_length=1, description='Whom a finding must be of, e.g. {"actor": "P0042"}.')
    times: list[AwareDatetime] = Field(min_length=1, description="Time of each taken record.")

    def judged_by(self, findings: Sequence[Finding]) -> LabelOutcome:
        """Returns whether a finding of this group and time detects the label."""
        times = sorted((time - _EPOCH) // timedelta(microseconds=1) for time in self.times)
        those = [
            finding.opened_at
            for finding in findings
            if any(self.group.items() <= group.items() for group in (finding.group, finding.shown))
            and finding.opened_at <= times[-1]
            and finding.held_until >= times[0]
        ]
        opened_at = min(those, default=None)
        taken = len(times) if opened_at is None else sum(time <= opened_at for time in times)
        return LabelOutcome(self, opened_at, taken)


@dataclass(frozen=True)
class LabelOutcome:
    """Detection of a label by a rule."""

    label: Label
    opened_at: int | None
    """Opening time of the first finding, in microseconds since the epoch; ``None`` if there is none."""
    taken: int
    """Number of records taken by then; all records if there is no finding."""


def read_labels(path: Path) -> list[Label]:
    """Reads labels, one JSON object per line. Raises :class:`FaultsError` with every fault."""
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
