"""Counts house idioms and inverted openings in the prose of a repository, per file and in all.

Prose is what people read: comments, docstrings, Markdown, the text of pages and their translations' originals, YAML
titles and descriptions, and every string of four words or more, so log events, help texts and error messages count.

    python tests/prose_count.py [ROOT [FILES]]      ROOT is a git checkout, FILES how many to list (25)
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

IDIOMS = re.compile(
    r"\b(told|heard|hears|whoever|nobody|somebody|anew|beside|goes on|go on|so many|at hand|lets? go of|puts? down|"
    r"takes? in|takes notice|as far as|what is|is none|of which|by which|of whom)\b",
    re.IGNORECASE,
)
"""Turns of phrase that a reader has to decode; each has a plain word."""

INVERTED = re.compile(
    r"(What|Of|Who|Whose|Whom|By which|In which|Those|Where|As it|As they|So many|Has|Lets|Puts|Asks for|Takes in|"
    r"Tells|Hears|Notes|Goes|Brings|Looks)\b"
)
"""Openings of sentences that do not start with their subject."""

SAMPLES = ("tests/prose_count.py", "tests/unit/test_prose.py")
"""Files that quote idioms because they count them, or test that they are counted."""

FEWEST_WORDS = 40
"""Files with less prose have no rate of their own; they count in the whole."""

_WORD = re.compile(r"[A-Za-z]+")
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+|\n\s*\n")
_YAML_TEXT = re.compile(
    r"""^\s*(?:- )?(?:title|description|summary|help|name|message):\s+(?![>|&*\[{])["']?(.+?)["']?\s*$"""
)
_YAML_BLOCK = re.compile(r"^(\s*)(?:- )?(?:title|description|summary|help|message):\s+[>|][-+]?\s*$")


@dataclass(frozen=True)
class Count:
    """How much prose a file has, and how much of it is hard to read."""

    path: str
    words: int
    idioms: int
    sentences: int
    inverted: int

    @property
    def idiom_rate(self) -> float:
        """House idioms per 1,000 words."""
        return 1000 * self.idioms / max(self.words, 1)

    @property
    def inverted_share(self) -> float:
        """Percentage of sentences that open inverted."""
        return 100 * self.inverted / max(self.sentences, 1)


def count(path: str, text: str) -> Count:
    """Counts one file; the suffix of ``path`` says how prose is found in ``text``."""
    prose = "\n\n".join(_prose(path, text))
    sentences = [sentence.strip() for sentence in _SENTENCE_END.split(prose) if len(sentence.split()) > 3]
    return Count(
        path,
        words=len(_WORD.findall(prose)),
        idioms=len(IDIOMS.findall(prose)),
        sentences=len(sentences),
        inverted=sum(bool(INVERTED.match(sentence)) for sentence in sentences),
    )


def count_repository(root: Path) -> list[Count]:
    """Counts every file with prose that git tracks under ``root``, except :data:`SAMPLES`."""
    listed = subprocess.run(["git", "-C", root, "ls-files", "-z"], capture_output=True, check=True).stdout.decode()
    paths = [path for path in listed.split("\0") if path and (root / path).is_file() and path not in SAMPLES]
    texts = ((path, (root / path).read_text(encoding="utf-8", errors="replace")) for path in paths if _is_prose(path))
    return [count(path, text) for path, text in texts]


def total(counts: list[Count]) -> Count:
    """Adds up all files."""
    return Count(
        "all",
        sum(c.words for c in counts),
        sum(c.idioms for c in counts),
        sum(c.sentences for c in counts),
        sum(c.inverted for c in counts),
    )


def _is_prose(path: str) -> bool:
    name = Path(path)
    return name.suffix in _READERS or name.name in ("Makefile", "Dockerfile", "Containerfile")


def _prose(path: str, text: str) -> Iterator[str]:
    return _READERS.get(Path(path).suffix, _hash_comments)(text)


def _python(text: str) -> Iterator[str]:
    """Comments (adjacent lines are one paragraph), docstrings and strings."""
    comments: list[str] = []
    last_line = -1
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.append(("\n" if token.start[0] == last_line + 1 else "\n\n") + token.string.lstrip("#: "))
            last_line = token.start[0]
    yield "".join(comments)
    tree = ast.parse(text)
    within_f_strings = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
            yield from _sentence("".join(parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in within_f_strings:
            yield from _sentence(node.value)


def _rust(text: str) -> Iterator[str]:
    """Comments (adjacent lines are one paragraph) and strings."""
    paragraph: list[str] = []
    for line in text.splitlines():
        code, marker, comment = line.partition("//")
        if marker and code.count('"') % 2 == 0:
            paragraph.append(comment.lstrip("/! "))
            continue
        yield "\n".join(paragraph)
        paragraph = []
        for literal in re.findall(r'"((?:[^"\\]|\\.)*)"', line):
            yield from _sentence(literal)
    yield "\n".join(paragraph)


def _markdown(text: str) -> Iterator[str]:
    """Everything but code blocks; each cell of a table is a paragraph."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"(?:(?<=\n\n)|\A)(?: {4}.*\n)+", "\n", text)
    yield re.sub(
        r"^\|(.*)\|?$", lambda row: "\n\n" + row.group(1).replace("|", "\n\n") + "\n\n", text, flags=re.MULTILINE
    )


def _yaml(text: str) -> Iterator[str]:
    """Comments, and titles, descriptions, summaries, messages and help."""
    yield from _hash_comments(text)
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if block := _YAML_BLOCK.match(line):
            indent = len(block.group(1)) + 1
            body = []
            for following in lines[number + 1 :]:
                if following.strip() and len(following) - len(following.lstrip()) < indent:
                    break
                body.append(following.strip())
            yield "\n".join(body)
        elif text_of := _YAML_TEXT.match(line):
            yield text_of.group(1)


def _hash_comments(text: str) -> Iterator[str]:
    paragraph: list[str] = []
    for line in text.splitlines():
        comment = re.match(r"(?:.*\s)?#+!? +(.*)", line)
        if comment:
            paragraph.append(comment.group(1))
        else:
            yield "\n".join(paragraph)
            paragraph = []
    yield "\n".join(paragraph)


def _html(text: str) -> Iterator[str]:
    """The text between tags, without template expressions."""
    text = re.sub(r"\{#(.*?)#\}", r"\n\n\1\n\n", text, flags=re.DOTALL)
    text = re.sub(r"\{%.*?%\}", "", text, flags=re.DOTALL)
    text = re.sub(r"\{\{.*?\}\}", "…", text, flags=re.DOTALL)
    yield re.sub(r"<[^>]*>", "\n\n", text)


def _script(text: str) -> Iterator[str]:
    yield from re.findall(r"/\*+(.*?)\*/", text, flags=re.DOTALL)
    yield "\n".join(re.findall(r"^\s*// ?(.*)", text, flags=re.MULTILINE))


def _messages(text: str) -> Iterator[str]:
    """The English originals of translations."""
    for entry in re.findall(r'^msgid ((?:".*"\n)+)', text, flags=re.MULTILINE):
        yield "".join(re.findall(r'"(.*)"', entry))


def _sentence(text: str) -> Iterator[str]:
    if len(text.split()) >= 4:
        yield text


_READERS = {
    ".py": _python,
    ".pyi": _python,
    ".rs": _rust,
    ".md": _markdown,
    ".yml": _yaml,
    ".yaml": _yaml,
    ".toml": _hash_comments,
    ".sh": _hash_comments,
    ".service": _hash_comments,
    ".html": _html,
    ".css": _script,
    ".js": _script,
    ".po": _messages,
}


def main() -> None:
    """Prints the whole repository's rates, then the files with the most idioms."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent
    listed = int(sys.argv[2]) if len(sys.argv) > 2 else 25
    counts = count_repository(root)
    all_of_it = total(counts)
    print(
        f"all: {all_of_it.words} words, {all_of_it.idiom_rate:.1f} idioms per 1,000, "
        f"{all_of_it.inverted_share:.1f} % of {all_of_it.sentences} sentences open inverted"
    )
    counts = [c for c in counts if c.words >= FEWEST_WORDS]
    for c in sorted(counts, key=lambda c: (-c.idiom_rate, -c.inverted_share))[:listed]:
        print(f"{c.idiom_rate:5.1f}/1000 {c.inverted_share:4.0f}% {c.words:6} words  {c.path}")


if __name__ == "__main__":
    main()
