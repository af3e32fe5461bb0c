"""How people are called on a page: by a pseudonym, unless the visitor may know and has said what for."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from custodes.accounts.secrets import Secrets
from custodes.findings import Finding

PEOPLE = ("actor", "subject")
"""The fields whose values are people with a page of their own."""
_HIDDEN = (*PEOPLE, "client_ip", "purpose")
"""The fields whose values say, or may say, who somebody is."""


@dataclass(frozen=True)
class Naming:
    """What names are shown as."""

    secrets: Secrets
    is_plain: bool
    """Whether names are shown everywhere: without accounts, whoever asks sits at the machine that has them all."""

    def pseudonym(self, field: str, value: str) -> str:
        """A value as everybody may see it."""
        return self.secrets.pseudonym(field, value) if field in _HIDDEN and not self.is_plain else value

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
