"""How people are called where names are not to be seen."""

from __future__ import annotations

from dataclasses import dataclass

from custodes.accounts.secrets import Secrets
from custodes.encryption.keys import NOT_PEOPLE
from custodes.findings import Finding


@dataclass(frozen=True)
class Pseudonyms:
    """What names are shown as."""

    secrets: Secrets
    is_plain: bool
    """Whether they are shown as they are."""

    def pseudonym(self, field: str, value: str) -> str:
        """A value as everybody may see it."""
        return value if self.is_plain or field in NOT_PEOPLE else self.secrets.pseudonym(field, value)

    def who(self, finding: Finding) -> str:
        """A finding's group as everybody may see it."""
        parts = (
            shown if (shown := self.pseudonym(name, value)) != value else f"{name} {value}"
            for name, value in finding.group.items()
        )
        return ", ".join(parts) or "everything"

    def group(self, finding: Finding) -> dict[str, str]:
        return {name: self.pseudonym(name, value) for name, value in finding.group.items()}
