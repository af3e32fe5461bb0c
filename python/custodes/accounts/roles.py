"""Roles and their permissions. Each role has only the permissions that its work needs."""

from __future__ import annotations

from enum import StrEnum


class Permission(StrEnum):
    """A single permission."""

    SEE = "see"
    """Read findings, rules and status, with pseudonyms."""
    REVEAL = "reveal"
    """Read names and activity of people: every access is audited with its purpose."""
    TRIAGE = "triage"
    """Acknowledge, close and comment findings."""
    AUDIT = "audit"
    """Read the audit trail of Custodes' own users."""
    OPERATE = "operate"
    """Reload the configuration."""


class Role(StrEnum):
    """The role of an account."""

    VIEWER = "viewer"
    """Dashboards and the on-call screen."""
    INVESTIGATOR = "investigator"
    """Reviews findings, including the names of the people involved."""
    AUTHOR = "author"
    """Writes rules and reads their statistics."""
    ADMIN = "admin"
    """Operates the installation, without access to names."""
    AUDITOR = "auditor"
    """Reviews the users of Custodes."""

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
"""Permissions on a machine that serves only itself and has no accounts."""
