"""Request and response models of people. The field descriptions are the API's reference documentation."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from custodes.console.jobs.surroundings import ActorSurroundings
from custodes.console.people.pages import LEAST_PURPOSE
from custodes.console.people.person_view import PersonView
from custodes.findings import rfc3339
from custodes.history import Access

_NAME = Field(min_length=1, max_length=1000, description="Plain name, not a pseudonym.")
PURPOSE = Field(min_length=LEAST_PURPOSE, max_length=200, description="Purpose; it is written to the audit trail.")


class SubjectIn(BaseModel):
    """A person, and the purpose."""

    model_config = ConfigDict(extra="forbid")

    name: str = _NAME
    purpose: str = PURPOSE


class LookIn(SubjectIn):
    """A person, the purpose, and the page."""

    kind: Literal["actor", "subject"]
    after: str | None = Field(None, max_length=400, description="`next` of the previous page.")


class SearchIn(BaseModel):
    """A search by name."""

    model_config = ConfigDict(extra="forbid")

    wanted: str = Field(min_length=1, max_length=1000)


class SearchOut(BaseModel):
    """People found by name."""

    actors: list[str] = Field(description="Actors whose names start with the text; at most 20.")
    is_subject: bool = Field(description="Whether the history has look-ups of a subject with exactly this name.")


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
        """Converts an entry of the history."""
        fields = {name: getattr(access, name) for name in cls.model_fields if name != "time"}
        return cls(time=rfc3339(access.time) or "", **fields)


class CountOut(BaseModel):
    """A name with its count."""

    name: str
    count: int

    @classmethod
    def each(cls, pairs: list[tuple[str, int]]) -> list[CountOut]:
        """Converts pairs of name and count."""
        return [cls(name=name, count=count) for name, count in pairs]


class ProfileOut(BaseModel):
    """Distribution of look-ups over the history."""

    accesses: int
    others: int = Field(description="Number of different subjects of an actor, or actors of a subject.")
    first: str | None
    last: str | None
    by_day: list[CountOut]
    by_hour: list[int] = Field(description="Look-ups by hour of the day, in UTC.")
    resources: list[CountOut]
    top_others: list[CountOut]
    peer_groups: list[str]


class PersonOut(BaseModel):
    """Profile, findings and look-ups of an actor or a subject."""

    profile: ProfileOut | None = Field(description="null without history.")
    risk: float | None = Field(description="Risk of an actor with findings; null otherwise.")
    findings: list[str] = Field(description="Ids of the latest findings.")
    accesses: list[AccessOut] = Field(description="Newest first.")
    next: str | None = Field(description="Pass as `after` for the next page; null on the last.")

    @classmethod
    def of(cls, view: PersonView) -> PersonOut:
        """Converts the page content."""
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
    """Comparison of an actor with peers, by number of different people looked up in the last days."""

    group: str
    members: int
    theirs: int
    ahead: int = Field(description="Number of peers who looked up more.")
    median: float
    most: list[CountOut]


class SharedOut(BaseModel):
    """A record, and the other actors who viewed it."""

    subject: str
    looks: int = Field(description="Number of views by the actor.")
    others: list[CountOut]


class AroundOut(BaseModel):
    """Peers and shared records of an actor."""

    peers: PeersOut | None = Field(description="null without a peer group, or if part of it is outside your access.")
    shared: list[SharedOut] = Field(description="Records, most viewed first.")

    @classmethod
    def of(cls, view: ActorSurroundings) -> AroundOut:
        """Converts the page content."""
        peers = view.peers and PeersOut(**(vars(view.peers) | {"most": CountOut.each(view.peers.most)}))
        shared = [
            SharedOut(subject=one.subject, looks=one.looks, others=CountOut.each(one.others)) for one in view.shared
        ]
        return cls(peers=peers, shared=shared)
