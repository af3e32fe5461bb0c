"""Encryption at rest: the keys of an installation, and everything that is encrypted with them.

Files are encrypted in chunks (``rust/cipher``). Names in a database are encrypted one by one with AES-SIV (RFC 5297):
under one key, equal names give equal ciphertexts, so they can be searched for; only the key decrypts them. Texts that
are never searched for get a random nonce, so equal texts differ.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from custodes._core import Keyring

if TYPE_CHECKING:
    from custodes.encryption.text_cipher import TextCipher

NOT_PEOPLE = frozenset({"resource", "action", "peer_group", "app"})
"""Fields whose values do not identify a person. Fields derived from a name may identify one."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_LENGTH = 32
_NONCE = 16
_LOOKED_FOR, _WRAPPED = "~", "~~"
"""Prefix of encrypted texts; the key's name, another ``~`` and base64 follow."""


class Keys:
    """The keys of an installation. The first key encrypts, all keys decrypt; without keys nothing is encrypted.

    Safe to use from any thread.
    """

    def __init__(self, named: Sequence[tuple[str, bytes]] = ()) -> None:
        """Each key is a name and 32 random bytes. Raises ``ValueError`` for an invalid or repeated key."""
        for name, secret in named:
            if not _NAME.fullmatch(name):
                raise ValueError(f"'{name}' is not a key name: use up to 32 characters of a-z, 0-9 and '-'")
            if len(secret) != _LENGTH:
                raise ValueError(f"the key '{name}' must have {_LENGTH} bytes, and has {len(secret)}")
        if len({name for name, _ in named}) < len(named):
            raise ValueError("two keys have the same name")
        self.files = Keyring(list(named))
        """Cipher for files."""
        self._texts: dict[str, TextCipher] = {}
        if named:
            # Imported here because it is slow, and most commands use no keys.
            from custodes.encryption.text_cipher import TextCipher  # noqa: PLC0415

            self._texts = {name: TextCipher(secret) for name, secret in named}

    @classmethod
    def kept_in(cls, path: Path) -> Keys:
        """Reads a key file as :func:`add_key` writes it. Raises ``OSError``, and ``ValueError`` for an invalid file."""
        return cls(_read(path))

    @property
    def current(self) -> str | None:
        """Name of the key that encrypts; ``None`` if nothing is encrypted."""
        return self.files.current

    @property
    def names(self) -> list[str]:
        """Names of all keys, the encrypting one first."""
        return list(self._texts)

    def hide(self, kind: str, text: str) -> str:
        """Encrypts a text that must be searchable: equal texts give equal ciphertexts. ``kind`` is the name of its
        field."""
        if self.current is None:
            return text
        encrypted = self._texts[self.current].encrypt(text, [kind.encode()])
        return hidden_by(self.current) + _text(encrypted)

    def show(self, kind: str, text: str) -> str:
        """Decrypts a searchable text. Plain texts and texts under an unknown key are returned unchanged."""
        name, encrypted = _parted(text, _LOOKED_FOR)
        if name not in self._texts:
            return text
        try:
            return self._texts[name].decrypt(_bytes(encrypted), [kind.encode()])
        except ValueError:
            return text

    def wrap(self, text: str) -> str:
        """Encrypts a text that is never searched for: equal texts give different ciphertexts."""
        if self.current is None:
            return text
        nonce = secrets.token_bytes(_NONCE)
        encrypted = self._texts[self.current].encrypt(text, [b"", nonce])
        return wrapped_by(self.current) + _text(nonce + encrypted)

    def unwrap(self, text: str) -> str:
        """Decrypts a text of :meth:`wrap`; returns all other texts as :meth:`show` does."""
        name, encrypted = _parted(text, _WRAPPED)
        if name not in self._texts:
            return text
        try:
            data = _bytes(encrypted)
            return self._texts[name].decrypt(data[_NONCE:], [b"", data[:_NONCE]])
        except ValueError:
            return text

    def hide_group(self, text: str) -> str:
        """Returns a group as JSON with its identifying values encrypted."""
        if self.current is None:
            return text
        return group_text({name: self._hidden(name, value) for name, value in json.loads(text).items()})

    def show_group(self, text: str) -> str:
        """Returns the group that :meth:`hide_group` encrypted."""
        if not self._texts or '"~' not in text:
            return text
        return group_text({name: self.show(name, value) for name, value in json.loads(text).items()})

    def _hidden(self, name: str, value: str) -> str:
        return value if name in NOT_PEOPLE else self.hide(name, value)


NO_KEYS = Keys()


def add_key(path: Path, name: str) -> None:
    """Creates a key that encrypts from the next start on, and the file if it is missing.

    Raises ``OSError``, and ``ValueError`` for an invalid or existing name and for an invalid file.
    """
    named = [(name, secrets.token_bytes(_LENGTH)), *(_read(path) if path.exists() else [])]
    Keys(named)
    _write(path, named)


def remove_key(path: Path, name: str) -> None:
    """Removes a key: data that is still encrypted under it is lost. Raises as :func:`add_key`, and ``KeyError`` for an
    unknown key."""
    named = _read(path)
    left = [one for one in named if one[0] != name]
    if len(left) == len(named):
        raise KeyError(name)
    _write(path, left)


def _read(path: Path) -> list[tuple[str, bytes]]:
    named = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, secret = line.strip().partition(" ")
        try:
            named.append((name, base64.b64decode(secret.strip(), validate=True)))
        except ValueError as error:
            raise ValueError(
                f"{path}:{number} is not a key: it must be a name, a space and 32 bytes in base64"
            ) from error
    return named


def _write(path: Path, named: Sequence[tuple[str, bytes]]) -> None:
    fresh = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write("# Keys of Custodes. The first one encrypts; keep the others until no data needs them.\n")
        file.writelines(f"{name} {base64.b64encode(secret).decode()}\n" for name, secret in named)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def group_text(group: dict[str, str]) -> str:
    """Returns the canonical JSON of a group."""
    return json.dumps(group, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def hidden_by(key: str) -> str:
    """Returns the prefix of searchable texts under a key."""
    return f"{_LOOKED_FOR}{key}~"


def wrapped_by(key: str) -> str:
    """Returns the prefix of wrapped texts under a key."""
    return f"{_WRAPPED}{key}~"


def _parted(text: str, beginning: str) -> tuple[str, str]:
    """Returns the key's name and the ciphertext, or ``None`` for a plain text."""
    if not text.startswith(beginning):
        return "", ""
    name, _, encrypted = text.removeprefix(beginning).partition("~")
    return name, encrypted


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
