"""Pages with a part that benchmarks write."""

from __future__ import annotations

from pathlib import Path

_END = "<!-- end -->"


def write_part(page: Path, written_by: str, text: str) -> None:
    """Replaces the text between the page's two marks."""
    begin = f"<!-- written by {written_by} -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(_END)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{_END}{after}", encoding="utf-8")
