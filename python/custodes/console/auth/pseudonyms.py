"""Pseudonyms on pages, and links to the pages of people.

A name is shown only to visitors with access to it who stated a purpose. Without accounts all names are plain, because
only local users of the machine that stores them can connect.
"""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from custodes.accounts.audit import AuditEntry
from custodes.accounts.pseudonyms import Pseudonyms


@dataclass(frozen=True)
class LinkedPseudonyms(Pseudonyms):
    """Pseudonyms, with links to the pages of people."""

    def address(self, kind: str, name: str) -> str:
        """Returns the path of a person's page; it does not reveal the name."""
        return f"/{kind}s/{self.secrets.hidden(kind, name)}"

    def looked_at(self, look: AuditEntry) -> str | None:
        """Returns the pseudonym of the person that an audit entry is about."""
        if look.subject is None or (look.resource == "custodes.finding" and look.action != "read"):
            return look.subject
        is_actor = look.resource in {"custodes.actor", "custodes.finding"}
        return self.secrets.pseudonym("actor" if is_actor else "subject", look.subject)

    def link(self, kind: str, name: str) -> Markup:
        """Returns a pseudonym that links to the person's page."""
        return Markup('<a href="{}">{}</a>').format(self.address(kind, name), self.pseudonym(kind, name))
