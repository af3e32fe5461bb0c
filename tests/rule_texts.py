"""Rules as text, for tests that write rule files."""

from __future__ import annotations


def detection(title: str, selection: str) -> str:
    """Returns a detection as a separate document, with its lower-case title as the name."""
    return (
        f"---\ntitle: {title}\nname: {title.lower()}\nlogsource: {{product: custodes}}\n"
        f"detection: {{selection: {selection}, condition: selection}}\n"
    )
