"""Every text is plain: few house idioms, few inverted sentences, none of the large files hard to read."""

from __future__ import annotations

from pathlib import Path

import pytest

import prose_count

ROOT = Path(__file__).parent.parent.parent
MOST_IDIOMS = 1.0
"""House idioms per 1,000 words, over the whole repository."""
MOST_INVERTED = 1.0
"""Percentage of sentences that open inverted, over the whole repository."""
MOST_IDIOMS_IN_A_LARGE_FILE = 3.0
LARGE_FILES = 20
"""Number of files with the most words that have a ceiling of their own."""


@pytest.fixture(scope="module")
def counts() -> list[prose_count.Count]:
    return prose_count.count_repository(ROOT)


def worst(counts: list[prose_count.Count]) -> str:
    listed = sorted(counts, key=lambda c: (-c.idioms, -c.inverted))[:15]
    return "\n".join(f"{c.path}: {c.idioms} idioms, {c.inverted} inverted in {c.words} words" for c in listed)


def test_the_repository_is_written_in_plain_words(counts: list[prose_count.Count]) -> None:
    whole = prose_count.total(counts)
    assert whole.words > 80_000, "the count has lost most of what it should read"
    assert whole.idiom_rate <= MOST_IDIOMS, worst(counts)
    assert whole.inverted_share <= MOST_INVERTED, worst(counts)


def test_no_large_file_is_hard_to_read(counts: list[prose_count.Count]) -> None:
    large = sorted(counts, key=lambda c: -c.words)[:LARGE_FILES]
    hard = [c for c in large if c.idiom_rate > MOST_IDIOMS_IN_A_LARGE_FILE]
    assert hard == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.py", '"""Nobody is told of it, whoever asks."""\n'),
        ("a.py", "x = 1  # nobody is told of it, whoever asks\n"),
        ("a.py", 'print(f"nobody is told of {x}, whoever asks")\n'),
        ("a.rs", "// Nobody is told of it, whoever asks.\n"),
        ("a.rs", '#[error("nobody is told of it, whoever asks")]\n'),
        ("a.md", "Nobody is told of it, whoever asks.\n"),
        ("a.md", "| nobody is told | of it, whoever asks |\n"),
        ("a.yml", "title: Nobody is told of it, whoever asks\n"),
        ("a.yml", "description: >\n  Nobody is told of it,\n  whoever asks\n"),
        ("a.yml", "# Nobody is told of it, whoever asks.\n"),
        ("a.html", "<p>Nobody is told of {{ it }}, whoever asks.</p>\n"),
        ("a.po", 'msgid "Nobody is told of it, whoever asks"\nmsgstr ""\n'),
        ("a.js", "// Nobody is told of it, whoever asks.\n"),
        ("Makefile", "x:  ## nobody is told of it, whoever asks\n"),
    ],
)
def test_each_kind_of_text_is_counted(path: str, text: str) -> None:
    assert prose_count.count(path, text).idioms == 3


def test_code_is_not_prose() -> None:
    text = "# Title\n\n```sh\nnobody is told\n```\n\n    whoever asks\n\nPlain words.\n"
    assert prose_count.count("a.md", text).idioms == 0
    assert prose_count.count("a.py", "told = heard(nobody)\n").idioms == 0


def test_inverted_openings_are_counted_by_sentence() -> None:
    found = prose_count.count(
        "a.md", "Of each step, workers read a chunk. The rest waits for them. Where it ends, it stops.\n"
    )
    assert (found.sentences, found.inverted) == (3, 2)
