"""The API's shapes. Field descriptions are the reference documentation."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from custodes.findings import rfc3339
from custodes.findings.silences import MOST_REASON
from custodes.findings.triage import MOST_TEXT, TriageState, Verdict
from custodes.findings.views import MOST_NAME


class TriageOut(BaseModel):
    """What people made of a finding."""

    state: TriageState
    verdict: Verdict | None = Field(description="Of a closed one: how it turned out.")
    assignee: str | None = Field(description="Whose it is.")
    version: int = Field(description="Goes up with every change; 0 where nobody has touched it.")
    changed_at: str | None


class ChangeIn(BaseModel):
    """What to do with a finding; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    state: TriageState | None = Field(None, description="`closed` wants a verdict.")
    verdict: Verdict | None = Field(None, description="All but `confirmed` want a note that says why.")
    assignee: str | None = Field(None, max_length=64, description='An account; "" is nobody.')
    note: str = Field("", max_length=MOST_TEXT)
    version: int | None = Field(
        None, ge=0, le=2**31 - 1, description="The version it is made from: 409 if it is another by now. Default: any."
    )


class NoteOut(BaseModel):
    """One entry of a finding's history."""

    at: str
    by: str
    kind: Literal["acknowledged", "closed", "reopened", "assigned", "note"]
    text: str


class HistoryOut(BaseModel):
    """Everything that was done with a finding, the earliest first."""

    notes: list[NoteOut]


class FindingOut(BaseModel):
    """One rule's condition, held for one group over an interval."""

    id: str = Field(description="UUID; stable once given.")
    rule_id: str = Field(description="The Sigma rule's id.")
    rule: str = Field(description="The rule's title.")
    level: str = Field(description="informational, low, medium, high or critical.")
    group: dict[str, str] = Field(
        description="The group-by fields and their values; people are pseudonyms for those who may not know them."
    )
    opened_at: str = Field(description="Time of the event that made the condition hold. RFC 3339 UTC.")
    closed_at: str | None = Field(description="End of the last pane at which it held; null while open.")
    peak: int | float = Field(description="Largest count, or measure, in any window.")
    count: int = Field(description="Matching events from the opening window's start to the last held pane.")
    threshold: int | float = Field(description="What the count was held against when the finding opened.")
    expected: float | None = Field(
        None, description="Count that the baseline expected for the group; only for a rule with a baseline."
    )
    triage: TriageOut


class FindingsOut(BaseModel):
    """A page of findings, newest first."""

    findings: list[FindingOut]
    next: str | None = Field(description="Pass as `after` for the next page; null on the last.")


class SilenceIn(BaseModel):
    """What is expected, and by when it is over."""

    model_config = ConfigDict(extra="forbid")

    rule_id: str | None = Field(None, max_length=200, description="Only this rule's findings. Default: every rule's.")
    group: dict[str, str] = Field(
        default_factory=dict, description="Values the finding's group has. Default: every group.", max_length=10
    )
    since: AwareDatetime | None = Field(None, description="When it begins. Default: now.")
    until: AwareDatetime = Field(description="When it ends: within 90 days of its beginning.")
    reason: str = Field(min_length=1, max_length=MOST_REASON, description="Why they are expected.")


class SilenceOut(BaseModel):
    """A silence that holds, or will."""

    number: int
    rule_id: str | None
    group: dict[str, str] = Field(description="People are pseudonyms for those who may not know them.")
    since: str
    until: str
    by: str
    reason: str


class SilencesOut(BaseModel):
    """Those that hold or will, those that end first first."""

    silences: list[SilenceOut]


class ViewIn(BaseModel):
    """Which findings to come back to. What is left out leaves nothing out."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=MOST_NAME, description="No two of your own have the same.")
    state: TriageState | None = None
    level: str = Field("", max_length=16)
    rule_id: str = Field("", max_length=200)
    is_shared: bool = Field(False, description="Everybody has it.")


class ViewOut(BaseModel):
    """A saved view."""

    number: int
    name: str
    by: str
    state: TriageState | Literal[""]
    level: str
    rule_id: str
    is_shared: bool


class ViewsOut(BaseModel):
    """Your own views and those that are shared, by name."""

    views: list[ViewOut]


class RiskOut(BaseModel):
    """What one actor's findings come to together."""

    actor: str
    score: float = Field(description="Points: by level and how far above the threshold; they halve in 30 days.")
    findings: list[str] = Field(description="The ids of what makes it up, the latest first.")
    rules: list[str] = Field(description="The titles of their rules, each once.")


class RisksOut(BaseModel):
    """Actors by their risk, the highest first."""

    as_of: str = Field(description="The time it is told for: that of the newest event.")
    risks: list[RiskOut]


class GapOut(BaseModel):
    """Records that were gone from a partition before they were read."""

    model_config = ConfigDict(populate_by_name=True)

    topic: str
    partition: int
    from_: int = Field(alias="from", description="The offset that was to be read next.")
    until: int = Field(description="The offset that was read next; below `from` where the partition was read anew.")
    records: int = Field(description="Offsets never seen.")
    noticed_at: str


class GapsOut(BaseModel):
    """What was never seen, the latest first."""

    gaps: list[GapOut]


class ShortfallOut(BaseModel):
    """A stretch of time in which not everything about a rule was remembered, or told."""

    kind: Literal["memory", "storm"] = Field(
        description="`memory`: windows outgrew it. `storm`: there were more findings than the rule may have open."
    )
    rule_id: str
    since: str
    until: str = Field(description="As far as is known.")
    groups: int = Field(
        description="`memory`: groups that would start at nothing if they came again; a count may be too low by no "
        "more than half the threshold each time. `storm`: groups without a finding at the worst moment."
    )
    values: int = Field(
        description="`memory`: values that would count again if they were seen again; a distinct count may be too "
        "high by so many."
    )


class ShortfallsOut(BaseModel):
    """Where findings fall short of what happened, the latest first."""

    shortfalls: list[ShortfallOut]


class WorkerOut(BaseModel):
    """One of the workers that share the counting, as it last told."""

    name: str
    url: str = Field(description="Where it serves, as its configuration says.")
    seen_at: str = Field(description="When it last told: every second while it lives.")
    tasks: list[str] = Field(description="The partitions that are its own.")
    events: int = Field(description="Events read since its start.")
    events_per_second: float
    lag_records: int = Field(description="Records in its partitions not read yet.")
    open_findings: int
    engine_bytes: int

    @classmethod
    def of(cls, name: str, seen_at: float, told: str) -> WorkerOut:
        """As the store has it; ``seen_at`` is in epoch seconds."""
        status = json.loads(told)
        seen = rfc3339(int(seen_at * 1e6)) or ""
        known = {field: status[field] for field in cls.model_fields if field not in ("name", "seen_at")}
        return cls(name=name, seen_at=seen, **known)


class StatusOut(BaseModel):
    """How the monitor stands."""

    version: str
    source: str = Field(description="Where events come from.")
    ready: bool = Field(description="Whether it has streams to read.")
    finished: bool = Field(description="Whether the source has ended.")
    started_at: str
    events: int = Field(description="Events counted since start.")
    rejected: int = Field(description="Records not counted since start.")
    late: int = Field(description="Events that came after the watermark since start.")
    events_per_second: float = Field(description="Over the last ten seconds.")
    lag_records: int = Field(description="Records in the source not read yet.")
    watermark: str | None = Field(description="Event time up to which everything is expected to have come.")
    newest_event: str | None = Field(description="Largest event time seen.")
    open_findings: int
    streams: int = Field(description="Partitions or files being read.")
    engine_bytes: int = Field(description="Memory held by windows.")
    snapshot_at: str | None = Field(description="When the last snapshot was begun; null while there is none.")
    workers: list[WorkerOut] = Field(description="All workers that share the database; none where one counts alone.")


class ProblemOut(BaseModel):
    """What went wrong with a request."""

    detail: str
