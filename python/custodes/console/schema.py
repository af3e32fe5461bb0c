"""Request and response models of the API. The field descriptions are its reference documentation."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from custodes.findings import rfc3339
from custodes.findings.silences import MOST_REASON
from custodes.findings.triage import MOST_TEXT, TriageState, Verdict
from custodes.findings.views import MOST_NAME


class TriageOut(BaseModel):
    """Triage of a finding."""

    state: TriageState
    verdict: Verdict | None = Field(description="Verdict of a closed finding; null otherwise.")
    assignee: str | None = Field(description="Account that the finding is assigned to.")
    version: int = Field(description="Increases with every change; 0 before the first.")
    changed_at: str | None


class ChangeIn(BaseModel):
    """Change of a finding's triage; omitted fields stay unchanged."""

    model_config = ConfigDict(extra="forbid")

    state: TriageState | None = Field(None, description="`closed` requires a verdict.")
    verdict: Verdict | None = Field(None, description="Every verdict except `confirmed` requires a note.")
    assignee: str | None = Field(None, max_length=64, description='An account; "" removes the assignment.')
    note: str = Field("", max_length=MOST_TEXT)
    version: int | None = Field(
        None,
        ge=0,
        le=2**31 - 1,
        description="Version that the change is based on: 409 if the finding has another. Default: any.",
    )


class NoteOut(BaseModel):
    """One entry of a finding's triage history."""

    at: str
    by: str
    kind: Literal["acknowledged", "closed", "reopened", "assigned", "note"]
    text: str


class HistoryOut(BaseModel):
    """Triage history of a finding, oldest first."""

    notes: list[NoteOut]


class FindingOut(BaseModel):
    """An interval in which a rule's condition held for one group."""

    id: str = Field(description="UUID; it never changes.")
    rule_id: str = Field(description="The Sigma rule's id.")
    rule: str = Field(description="The rule's title.")
    level: str = Field(description="informational, low, medium, high or critical.")
    group: dict[str, str] = Field(
        description="The group-by fields and their values; callers without access to names get pseudonyms."
    )
    opened_at: str = Field(description="Time of the event that made the condition hold. RFC 3339 UTC.")
    closed_at: str | None = Field(description="End of the last pane at which it held; null while open.")
    peak: int | float = Field(description="Largest count, or measure, in any window.")
    count: int = Field(description="Matching events from the opening window's start to the last held pane.")
    threshold: int | float = Field(description="Value that the count was compared with when the finding opened.")
    expected: float | None = Field(
        None, description="Count that the baseline expected for the group; only for a rule with a baseline."
    )
    triage: TriageOut


class FindingsOut(BaseModel):
    """A page of findings, newest first."""

    findings: list[FindingOut]
    next: str | None = Field(description="Pass as `after` for the next page; null on the last.")


class SilenceIn(BaseModel):
    """A new silence."""

    model_config = ConfigDict(extra="forbid")

    rule_id: str | None = Field(None, max_length=200, description="Only this rule's findings. Default: every rule's.")
    group: dict[str, str] = Field(
        default_factory=dict,
        description="Field values that the finding's group must have. Default: every group.",
        max_length=10,
    )
    since: AwareDatetime | None = Field(None, description="Start. Default: now.")
    until: AwareDatetime = Field(description="End, at most 90 days after the start.")
    reason: str = Field(min_length=1, max_length=MOST_REASON, description="Reason for the silence.")


class SilenceOut(BaseModel):
    """An active or scheduled silence."""

    number: int
    rule_id: str | None
    group: dict[str, str] = Field(description="Callers without access to names get pseudonyms.")
    since: str
    until: str
    by: str
    reason: str


class SilencesOut(BaseModel):
    """Active and scheduled silences, the earliest end first."""

    silences: list[SilenceOut]


class ViewIn(BaseModel):
    """A new saved view: filters of the findings list. Omitted fields do not filter."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=MOST_NAME, description="Unique among your own views.")
    state: TriageState | None = None
    level: str = Field("", max_length=16)
    rule_id: str = Field("", max_length=200)
    is_shared: bool = Field(False, description="Whether the view is visible to all accounts.")


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
    """Your own and all shared views, sorted by name."""

    views: list[ViewOut]


class RiskOut(BaseModel):
    """Risk of one actor, from all of the actor's findings."""

    actor: str
    score: float = Field(description="Points by level and by factor above the threshold; they halve every 30 days.")
    findings: list[str] = Field(description="Ids of the contributing findings, newest first.")
    rules: list[str] = Field(description="Titles of their rules, without duplicates.")


class RisksOut(BaseModel):
    """Actors by risk, highest first."""

    as_of: str = Field(description="Time for which the scores are computed: that of the newest event.")
    risks: list[RiskOut]


class GapOut(BaseModel):
    """Records that were deleted from a partition before they were read."""

    model_config = ConfigDict(populate_by_name=True)

    topic: str
    partition: int
    from_: int = Field(alias="from", description="Offset expected next.")
    until: int = Field(description="Offset read next; smaller than `from` if the partition was read from the start.")
    records: int = Field(description="Number of offsets that were never read.")
    noticed_at: str


class GapsOut(BaseModel):
    """Gaps, newest first."""

    gaps: list[GapOut]


class ShortfallOut(BaseModel):
    """A period in which a rule's counts or findings were incomplete."""

    kind: Literal["memory", "storm", "refused"] = Field(
        description="`memory`: windows reached the memory limit. `storm`: the rule reached its limit of open findings. "
        "`refused`: the database refused a finding for its content."
    )
    rule_id: str
    since: str
    until: str = Field(description="Last known time of the period.")
    groups: int = Field(
        description="`memory`: evicted groups. Such a group restarts at zero, so each eviction may lower a count by up "
        "to half the threshold. `storm`: largest number of groups without a finding at one time."
    )
    values: int = Field(
        description="`memory`: evicted values. They count again when they reappear, so a distinct count may be too "
        "high by up to this number."
    )


class ShortfallsOut(BaseModel):
    """Shortfalls, newest first."""

    shortfalls: list[ShortfallOut]


class WorkerOut(BaseModel):
    """One of several workers, with its last reported status."""

    name: str
    url: str = Field(description="Configured address of its HTTP server.")
    seen_at: str = Field(description="Time of its last report; a running worker reports every second.")
    tasks: list[str] = Field(description="Partitions assigned to it.")
    events: int = Field(description="Events read since its start.")
    events_per_second: float
    lag_records: int | None = Field(
        description="Records in its partitions that are not read yet; null until the end of each partition is known."
    )
    open_findings: int
    engine_bytes: int

    @classmethod
    def of(cls, name: str, seen_at: float, report: str) -> WorkerOut:
        """Converts a row of the store; ``seen_at`` is in epoch seconds."""
        status = json.loads(report)
        seen = rfc3339(int(seen_at * 1e6)) or ""
        known = {field: status[field] for field in cls.model_fields if field not in ("name", "seen_at")}
        return cls(name=name, seen_at=seen, **known)


class StatusOut(BaseModel):
    """Status of the monitor."""

    version: str
    source: str = Field(description="Source of the events.")
    ready: bool = Field(description="Whether the source has streams to read.")
    finished: bool = Field(description="Whether the source has ended.")
    started_at: str
    events: int = Field(description="Events counted since the start.")
    rejected: int = Field(description="Records rejected since the start.")
    late: int = Field(description="Events since the start that arrived after the watermark had passed them.")
    unmatched: int = Field(description="Events since the start that met no condition of any rule.")
    no_access: int = Field(description="Events since the start that are no access, such as logins; no rule sees them.")
    events_per_second: float = Field(description="Rate over the last ten seconds.")
    lag_records: int | None = Field(
        description="Records in the source that are not read yet; null until the end of each partition is known."
    )
    watermark: str | None = Field(description="Event time up to which all events are expected to have arrived.")
    newest_event: str | None = Field(description="Largest event time seen.")
    open_findings: int
    streams: int = Field(description="Partitions or files being read.")
    engine_bytes: int = Field(description="Memory used by windows, in bytes.")
    snapshot_at: str | None = Field(description="Start of the last snapshot; null before the first.")
    workers: list[WorkerOut] = Field(description="All workers that share the database; empty with a single process.")


class ProblemOut(BaseModel):
    """Reason why a request failed."""

    detail: str
