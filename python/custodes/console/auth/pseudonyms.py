"""How people are called on a page: by a pseudonym, unless the visitor may know and has said what for.

Without accounts names are plain everywhere: whoever asks sits at the machine that has them all.
"""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from custodes.accounts.audit import AuditEntry
from custodes.accounts.pseudonyms import Pseudonyms


@dataclass(frozen=True)
class LinkedPseudonyms(Pseudonyms):
    """What names are shown as, and where their pages are."""

    def address(self, kind: str, name: str) -> str:
        """Where a person's page is; it says nothing of who that is."""
        return f"/{kind}s/{self.secrets.hidden(kind, name)}"

    def looked_at(self, look: AuditEntry) -> str | None:
        """Whom an entry of the trail is about, for whoever watches those who watch: they need no names."""
        if look.subject is None or (look.resource == "custodes.finding" and look.action != "read"):
            return look.subject
        is_actor = look.resource in {"custodes.actor", "custodes.finding"}
        return self.secrets.pseudonym("actor" if is_actor else "subject", look.subject)

    def link(self, kind: str, name: str) -> Markup:
        """A pseudonym that leads to a person's page."""
        return Markup('<a href="{}">{}</a>').format(self.address(kind, name), self.pseudonym(kind, name))
