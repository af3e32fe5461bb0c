"""Verifies an evidence bundle as its README describes, without Custodes: hashlib and Ed25519."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def signed(note: str, key: str) -> tuple[int, bytes]:
    """Returns size and root of a head. Raises ``ValueError`` if this key has not signed it."""
    name, key_hash, public = key.split("+", 2)
    text, signature = note.split("\n\n")
    wanted = f"\u2014 {name} "
    line = next(line for line in signature.splitlines() if line.startswith(wanted))
    data = base64.b64decode(line.removeprefix(wanted))
    if data[:4].hex() != key_hash:
        raise ValueError("signed by another key")
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(public)[1:]).verify(data[4:], f"{text}\n".encode())
    except InvalidSignature as error:
        raise ValueError("not signed") from error
    lines = text.split("\n")
    return int(lines[1]), base64.b64decode(lines[2])


def root_from(entry: bytes, number: int, path: list[bytes], size: int) -> bytes:
    """Returns the root computed from an entry and its inclusion path, as defined in RFC 9162, 2.1.3.1."""
    if size == 1:
        assert not path
        return hashlib.sha256(b"\0" + entry).digest()
    left = 1 << (size - 1).bit_length() - 1
    if number < left:
        return hashlib.sha256(b"\1" + root_from(entry, number, path[:-1], left) + path[-1]).digest()
    return hashlib.sha256(b"\1" + path[-1] + root_from(entry, number - left, path[:-1], size - left)).digest()


def proven(bundle: Path, key: str) -> list[dict[str, Any]]:
    """Returns the entries of a bundle after proving that each is in the log signed by this key."""
    with zipfile.ZipFile(bundle) as file:
        proof = json.loads(file.read("proof.json"))
    size, root = signed(proof["head"], key)
    entries = []
    for one in proof["entries"]:
        entry = base64.b64decode(one["entry"])
        path = [base64.b64decode(beside) for beside in one["path"]]
        assert root_from(entry, one["number"], path, size) == root, one["number"]
        entries.append(json.loads(entry[16:]))
    return entries
