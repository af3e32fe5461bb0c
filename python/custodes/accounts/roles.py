"""Roles: what each is for, and what it may do. Nobody has more than the job needs."""

from __future__ import annotations

from enum import StrEnum


class Permission(StrEnum):
    """Something that is allowed, or not."""

    SEE = "see"
    """Findings, rules and how the monitor stands, with everybody's names left out."""
    REVEAL = "reveal"
    """Who people are, and what they did: each look is kept, with its purpose."""
    TRIAGE = "triage"
    """Acknowledging, closing, noting."""
    AUDIT = "audit"
    """What the users of Custodes looked at."""
    OPERATE = "operate"
    """Reloading the configuration."""


class Role(StrEnum):
    """What somebody does with Custodes."""

    VIEWER = "viewer"
    """Dashboards and the on-call screen."""
    INVESTIGATOR = "investigator"
    """Judges findings, and must know whom they are about."""
    AUTHOR = "author"
    """Writes rules, and reads how they fare."""
    ADMIN = "admin"
    """Runs it; needs no names for that."""
    AUDITOR = "auditor"
    """Watches those who watch."""

    @property
    def permissions(self) -> frozenset[Permission]:
        return _MAY[self]


_MAY = {
    Role.VIEWER: frozenset({Permission.SEE}),
    Role.INVESTIGATOR: frozenset({Permission.SEE, Permission.REVEAL, Permission.TRIAGE}),
    Role.AUTHOR: frozenset({Permission.SEE, Permission.OPERATE}),
    Role.ADMIN: frozenset({Permission.SEE, Permission.OPERATE}),
    Role.AUDITOR: frozenset({Permission.SEE, Permission.AUDIT}),
}
ALL_PERMISSIONS = frozenset(Permission)
"""What whoever sits at a machine may do that serves itself alone and has no accounts."""
