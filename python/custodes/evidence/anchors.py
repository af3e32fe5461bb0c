"""Anchors: heads of the evidence log published elsewhere, as later proof of its content.

An administrator of the machine has the log and its key, but cannot change a head that was published elsewhere.
"""

from __future__ import annotations

import json
import os
import syslog
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx

from custodes.log_events import AnchorFailed

_EVERY_SECONDS = 60.0
_TIMEOUT_SECONDS = 10.0


class Anchor(Protocol):
    """A place to which heads are published."""

    where: str

    def tell(self, head: str) -> None:
        """Publishes a head; returns once it is stored there. Raises ``OSError``."""


class FileAnchor:
    """A file that heads are appended to, on write-once storage or another machine."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self._path = path

    def tell(self, head: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"head": head}) + "\n")
            file.flush()
            os.fsync(file.fileno())


class SyslogAnchor:
    """The system log, which is often forwarded to another machine."""

    where = "syslog"

    def tell(self, head: str) -> None:
        syslog.syslog(syslog.LOG_NOTICE | syslog.LOG_AUTH, "custodes evidence " + json.dumps({"head": head}))


class WebAnchor:
    """A URL that accepts heads by POST."""

    def __init__(self, url: str) -> None:
        self.where = url
        self._url = url

    def tell(self, head: str) -> None:
        try:
            headers = {"Content-Type": "text/plain; charset=utf-8"}
            httpx.post(self._url, content=head, headers=headers, timeout=_TIMEOUT_SECONDS).raise_for_status()
        except httpx.HTTPError as error:
            raise OSError(str(error) or type(error).__name__) from error


def anchor_at(where: str) -> Anchor:
    """Returns the anchor for ``file:///…``, ``syslog:`` or ``https://…``. Raises ``ValueError`` for another URL."""
    scheme = urlsplit(where).scheme
    if scheme == "file":
        return FileAnchor(Path(url2pathname(urlsplit(where).path)))
    if scheme == "syslog":
        return SyslogAnchor()
    if scheme in {"http", "https"}:
        return WebAnchor(where)
    raise ValueError(f"'{where}' is not an anchor; use file:///…, syslog: or https://…")


def heads_in(path: Path) -> list[tuple[str, str]]:
    """Returns the heads in a file, a signed note or the output of a file anchor, each with its place. Raises
    ``OSError``."""
    text = path.read_text(encoding="utf-8")
    if not text.startswith("{"):
        return [(str(path), text)]
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    return [(f"{path}:{number}", _head_of(line)) for number, line in lines]


def _head_of(line: str) -> str:
    try:
        return str(json.loads(line)["head"])
    except (ValueError, KeyError, TypeError):
        return ""


class Anchors:
    """Publishes the last head to every anchor, at most once a minute."""

    def __init__(self, anchors: Sequence[Anchor] = ()) -> None:
        self._anchors = anchors
        self._told: dict[str, str] = {}
        self._tried_at = float("-inf")
        self.failing: set[str] = set()
        """Anchors to which the last head could not be published."""

    def step(self, head: str | None, *, at_once: bool = False) -> None:
        if head is None or (not at_once and time.monotonic() - self._tried_at < _EVERY_SECONDS):
            return
        for anchor in self._anchors:
            if self._told.get(anchor.where) == head:
                continue
            self._tried_at = time.monotonic()
            try:
                anchor.tell(head)
            except OSError as error:
                if anchor.where not in self.failing:
                    AnchorFailed(where=anchor.where, error=str(error)).emit()
                self.failing.add(anchor.where)
                continue
            self._told[anchor.where] = head
            self.failing.discard(anchor.where)
