"""The API's shapes of people. Field descriptions are the reference documentation."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from custodes.console.jobs.surroundings import ActorSurroundings
from custodes.console.people.pages import LEAST_PURPOSE
from custodes.console.people.person_view import PersonView
from custodes.findings import rfc3339
from custodes.history import Access

_NAME = Field(min_length=1, max_length=1000, description="As it is, not a pseudonym.")
PURPOSE = Field(min_length=LEAST_PURPOSE, max_length=200, description="What for; it goes into the audit trail.")


class SubjectIn(BaseModel):
    """Whom to look at, and why."""

    model_config = ConfigDict(extra="forbid")

    name: str = _NAME
    purpose: str = PURPOSE


class LookIn(SubjectIn):
    """Whom to look at, why, and from where on."""

    kind: Literal["actor", "subject"]
    after: str | None = Field(None, max_length=400, description="The `next` of the page before.")


class SearchIn(BaseModel):
    """Who is looked for."""

    model_config = ConfigDict(extra="forbid")

    wanted: str = Field(min_length=1, max_length=1000)


class SearchOut(BaseModel):
    """Who is called so."""

    actors: list[str] = Field(description="Those whose names begin so; twenty at most.")
    is_subject: bool = Field(description="Whether anybody looked at a subject of just that name.")


class AccessOut(BaseModel):
    """One look-up of one subject, or of none."""

    time: str
    actor: str
    subject: str | None
    resource: str | None
    action: str | None
    peer_group: str | None
    purpose: str | None
    client_ip: str | None
    app: str | None

    @classmethod
    def of(cls, access: Access) -> AccessOut:
        """As the history has it."""
        fields = {name: getattr(access, name) for name in cls.model_fields if name != "time"}
        return cls(time=rfc3339(access.time) or "", **fields)


class CountOut(BaseModel):
    """How often."""

    name: str
    count: int

    @classmethod
    def each(cls, pairs: list[tuple[str, int]]) -> list[CountOut]:
        """Of a list of both."""
        return [cls(name=name, count=count) for name, count in pairs]


class ProfileOut(BaseModel):
    """How look-ups spread, as long as the history is kept."""

    accesses: int
    others: int = Field(description="Different subjects of an actor, or actors of a subject.")
    first: str | None
    last: str | None
    by_day: list[CountOut]
    by_hour: list[int] = Field(description="Of each hour of the day, in UTC.")
    resources: list[CountOut]
    top_others: list[CountOut]
    peer_groups: list[str]


class PersonOut(BaseModel):
    """All there is of an actor, or a subject."""

    profile: ProfileOut | None = Field(description="null where no history is kept.")
    risk: float | None = Field(description="Of an actor with findings: what they come to together.")
    findings: list[str] = Field(description="Ids of the latest.")
    accesses: list[AccessOut] = Field(description="The latest first.")
    next: str | None = Field(description="Pass as `after` for the page after this; null on the last.")

    @classmethod
    def of(cls, view: PersonView) -> PersonOut:
        """As the page shows it."""
        known = view.profile
        profile = known and ProfileOut(
            accesses=known.accesses,
            others=known.others,
            first=rfc3339(known.first),
            last=rfc3339(known.last),
            by_day=CountOut.each([(day.isoformat(), count) for day, count in known.by_day]),
            by_hour=known.by_hour,
            resources=CountOut.each(known.resources),
            top_others=CountOut.each(known.top_others),
            peer_groups=known.peer_groups,
        )
        return cls(
            profile=profile,
            risk=None if view.risk is None else round(view.risk.score, 1),
            findings=[finding.id for finding in view.findings],
            accesses=[AccessOut.of(one) for one in view.accesses],
            next=view.following,
        )


class PeersOut(BaseModel):
    """How an actor stands among peers, by how many different people each looked at in the last days."""

    group: str
    members: int
    theirs: int
    ahead: int = Field(description="How many looked at more.")
    median: float
    most: list[CountOut]


class SharedOut(BaseModel):
    """A record, and who else looked at it."""

    subject: str
    looks: int = Field(description="The actor's own.")
    others: list[CountOut]


class AroundOut(BaseModel):
    """What is around an actor."""

    peers: PeersOut | None = Field(description="null without a peer group, and where not all of it may be seen.")
    shared: list[SharedOut] = Field(description="The records looked at the most, first.")

    @classmethod
    def of(cls, view: ActorSurroundings) -> AroundOut:
        """As the page shows it."""
        peers = view.peers and PeersOut(**(vars(view.peers) | {"most": CountOut.each(view.peers.most)}))
        shared = [
            SharedOut(subject=one.subject, looks=one.looks, others=CountOut.each(one.others)) for one in view.shared
        ]
        return cls(peers=peers, shared=shared)
