"""Recognition of files that are not JSON Lines, by their first bytes.

A file with a few invalid lines is JSON Lines, and each of those lines is a dead letter. A file is in another format
only if none of its first lines could be an event.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CONVERT = "convert it to JSON Lines, one JSON object per line"
_DECOMPRESS = "decompress it first; gzip and zstd are read directly"
_DECRYPT = "decrypt it first"
_JQ = "convert it with jq -c"

_SIGNATURES = (
    (b"PAR1", "Parquet", "convert it with DuckDB: COPY (FROM 'FILE') TO 'events.jsonl' (FORMAT json)"),
    (b"%PDF-", "PDF", "export the events as JSON Lines"),
    (b"PK\x03\x04", "ZIP or a spreadsheet", "unpack it first, or export the sheet as JSON Lines"),
    (b"\xfd7zXZ\0", "xz", _DECOMPRESS),
    (b"BZh", "bzip2", _DECOMPRESS),
    (b"\x04\x22\x4d\x18", "LZ4", _DECOMPRESS),
    (b"\xff\x06\0\0sNaPpY", "Snappy", _DECOMPRESS),
    (b"\x1f\x9d", "compress (.Z)", _DECOMPRESS),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip", "unpack it first"),
    (b"Rar!\x1a\x07", "RAR", "unpack it first"),
    (b"Obj\x01", "Avro", "convert it with avro-tools tojson"),
    (b"ORC", "ORC", _CONVERT),
    (b"ARROW1", "Arrow", _CONVERT),
    (b"SQLite format 3\0", "an SQLite database", "export the events as JSON Lines"),
    (b"PGDMP", "a PostgreSQL dump", "export the events as JSON Lines"),
    (b"ElfFile\0", "a Windows event log", _CONVERT),
    (b"age-encryption.org/", "age encryption", _DECRYPT),
    (b"-----BEGIN PGP MESSAGE", "OpenPGP encryption", _DECRYPT),
)
_TAR = b"ustar"
_TAR_AT = 257
_RECORD_SEPARATOR = b"\x1e"
_SYSLOG = re.compile(rb"<\d{1,3}>")
_CONTINUED = (b",", b"[", b"]", b"{", b":")
"""Ends of lines that continue on the next, or that end an array."""
_SEPARATORS = (b",", b";", b"\t", b"|")


@dataclass(frozen=True)
class OtherFormat:
    """A format that is not read."""

    name: str
    advice: str

    def __str__(self) -> str:
        return f"the file looks like {self.name} and not like JSON Lines; {self.advice}"


def other_format(head: bytes) -> OtherFormat | None:
    """Returns the format of a file that begins with ``head``; ``None`` if it can be JSON Lines.

    ``head`` is decompressed UTF-8, and ends with a complete line if there is one.
    """
    for signature, name, advice in _SIGNATURES:
        if head.startswith(signature):
            return OtherFormat(name, advice)
    if head[_TAR_AT:].startswith(_TAR):
        return OtherFormat("tar", "unpack it first")
    lines = [line.strip(b" \t\r\0") for line in head.split(b"\n")]
    lines = [line for line in lines if line]
    if not lines or any(_can_be_event(line) for line in lines):
        return None
    return _text_format(lines, head)


def _can_be_event(line: bytes) -> bool:
    """Returns whether a line looks like a JSON object, complete or cut off; not like a part of a longer text."""
    return line.startswith(b"{") and (line.endswith(b"}") or line[1:2] == b'"') and not line.endswith(_CONTINUED)


def _text_format(lines: list[bytes], head: bytes) -> OtherFormat:
    first = lines[0]
    if first.startswith(_RECORD_SEPARATOR):
        return OtherFormat("a JSON text sequence (RFC 7464)", f"{_JQ} --seq .")
    if first.startswith(b"["):
        return OtherFormat("a JSON array", f"{_JQ} '.[]'")
    if first.startswith(b"{"):
        return OtherFormat("JSON over several lines", f"{_JQ} .")
    if b"\0" in head:
        return OtherFormat("binary data", _CONVERT)
    if _SYSLOG.match(first):
        return OtherFormat("syslog", _CONVERT)
    if first.startswith((b"CEF:", b"LEEF:")):
        return OtherFormat("CEF or LEEF", _CONVERT)
    if first.startswith(b"<"):
        return OtherFormat("XML or HTML", _CONVERT)
    if any(_is_separated_by(mark, lines) for mark in _SEPARATORS):
        return OtherFormat("CSV", "convert it with DuckDB: COPY (FROM 'FILE') TO 'events.jsonl' (FORMAT json)")
    return OtherFormat("plain text", _CONVERT)


def _is_separated_by(mark: bytes, lines: list[bytes]) -> bool:
    columns = lines[0].count(mark)
    return columns > 0 and any(line.count(mark) == columns for line in lines[1:])
