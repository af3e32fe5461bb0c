"""Pseudonyms: display names for readers without access to real names."""

from __future__ import annotations

from dataclasses import dataclass

from custodes.accounts.secrets import Secrets
from custodes.encryption.keys import NOT_PEOPLE
from custodes.findings import Finding


@dataclass(frozen=True)
class Pseudonyms:
    """How names are displayed."""

    secrets: Secrets
    is_plain: bool
    """Whether real names are displayed."""

    def pseudonym(self, field: str, value: str) -> str:
        """Returns the displayed form of a value."""
        return value if self.is_plain or field in NOT_PEOPLE else self.secrets.pseudonym(field, value)

    def who(self, finding: Finding) -> str:
        """Returns a finding's group in its displayed form."""
        parts = (
            shown if (shown := self.pseudonym(name, value)) != value else f"{name} {value}"
            for name, value in finding.group.items()
        )
        return ", ".join(parts) or "everything"

    def group(self, finding: Finding) -> dict[str, str]:
        return {name: self.pseudonym(name, value) for name, value in finding.group.items()}
