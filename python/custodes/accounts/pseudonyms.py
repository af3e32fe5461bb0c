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
            for name, value in self._values(finding).items()
        )
        return ", ".join(parts) or "everything"

    def group(self, finding: Finding) -> dict[str, str]:
        return {name: self.pseudonym(name, value) for name, value in self._values(finding).items()}

    def _values(self, finding: Finding) -> dict[str, str]:
        """Returns names as written, or what pseudonyms are made of, so that all spellings have the same one."""
        return finding.shown if self.is_plain else finding.group
