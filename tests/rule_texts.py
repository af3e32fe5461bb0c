"""Rules as text, for tests that write rule files."""

from __future__ import annotations


def detection(title: str, selection: str) -> str:
    """A detection of its own document, referred to by its title in small letters."""
    return (
        f"---\ntitle: {title}\nname: {title.lower()}\nlogsource: {{product: custodes}}\n"
        f"detection: {{selection: {selection}, condition: selection}}\n"
    )
