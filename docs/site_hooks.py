"""MkDocs hooks: adds the pages of the repository root, and links to files outside the site as plain text."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
ROOT_PAGES = {
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "README.md": "index.md",
}
"""Pages outside docs/, by their path in the repository: the path in the site."""
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of the repository root."""
    for name, uri in ROOT_PAGES.items():
        if uri != "index.md":
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites links for the site; code blocks stay as they are."""
    source = page.file.src_uri
    in_repository = {uri: name for name, uri in ROOT_PAGES.items() if uri != "index.md"}.get(source, f"docs/{source}")
    parts = _FENCE.split(markdown)
    parts[::2] = [_LINK.sub(lambda link: _rewritten(link, in_repository, source), part) for part in parts[::2]]
    return "".join(parts)


def _rewritten(link: re.Match[str], in_repository: str, source: str) -> str:
    """Returns a link to the site's page, or the link's text if the target is not part of the site."""
    text, target, anchor = link[1], link[2], link[3] or ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(in_repository), target))
    if path in ROOT_PAGES:
        uri = ROOT_PAGES[path]
    elif path.startswith("docs/") and (ROOT / path).suffix in {".md", ".png", ".svg"}:
        uri = path.removeprefix("docs/")
    else:
        return text if path in text or text.startswith("`") else f"{text} (`{path}`)"
    return f"[{text}]({posixpath.relpath(uri, posixpath.dirname(source) or '.')}{anchor})"
