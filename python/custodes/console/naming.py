"""How people are called on a page: by a pseudonym, unless the visitor may know and has said what for."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from custodes.accounts.secrets import Secrets
from custodes.findings import Finding

_NOBODY = ("resource", "action", "peer_group", "app")
"""The fields whose values say nothing of who somebody is. What was worked out from a name may say it, too."""


@dataclass(frozen=True)
class Naming:
    """What names are shown as."""

    secrets: Secrets
    is_plain: bool
    """Whether names are shown everywhere: without accounts, whoever asks sits at the machine that has them all."""

    def pseudonym(self, field: str, value: str) -> str:
        """A value as everybody may see it."""
        return value if self.is_plain or field in _NOBODY else self.secrets.pseudonym(field, value)

    def who(self, finding: Finding) -> str:
        """A finding's group as everybody may see it."""
        parts = (
            shown if (shown := self.pseudonym(name, value)) != value else f"{name} {value}"
            for name, value in finding.group.items()
        )
        return ", ".join(parts) or "everything"

    def group(self, finding: Finding) -> dict[str, str]:
        return {name: self.pseudonym(name, value) for name, value in finding.group.items()}

    def address(self, kind: str, name: str) -> str:
        """Where a person's page is; it says nothing of who that is."""
        return f"/{kind}s/{self.secrets.hidden(kind, name)}"

    def link(self, kind: str, name: str) -> Markup:
        """A pseudonym that leads to a person's page."""
        return Markup('<a href="{}">{}</a>').format(self.address(kind, name), self.pseudonym(kind, name))
