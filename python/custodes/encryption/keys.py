"""Encryption at rest: the keys of an installation, and what is encrypted with them.

Files are encrypted in chunks (``rust/cipher``). Names in a database are encrypted each by itself, by AES-SIV (RFC
5297): under one key a name is the same text each time, a keyed pseudonym that can be looked for, and that is turned
back with the key alone. What nobody looks for is another text each time.
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
"""The fields whose values say nothing of who somebody is. What was worked out from a name may say it, too."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_LENGTH = 32
_NONCE = 16
_LOOKED_FOR, _WRAPPED = "~", "~~"
"""How texts begin that were encrypted; after it come the key's name, another ``~``, and base64."""


class Keys:
    """The keys there are. The first is for what is written, all for what is read; without any nothing is encrypted.

    Used from any thread.
    """

    def __init__(self, named: Sequence[tuple[str, bytes]] = ()) -> None:
        """Each is a name and 32 random bytes. Raises ``ValueError`` for what is none, or comes twice."""
        for name, secret in named:
            if not _NAME.fullmatch(name):
                raise ValueError(f"'{name}' is no name of a key: up to 32 of a-z, 0-9 and '-'")
            if len(secret) != _LENGTH:
                raise ValueError(f"the key '{name}' has {len(secret)} bytes, not {_LENGTH}")
        if len({name for name, _ in named}) < len(named):
            raise ValueError("two keys have one name")
        self.files = Keyring(list(named))
        """For files."""
        self._texts: dict[str, TextCipher] = {}
        if named:
            # It takes a while to import, and most commands know of no keys.
            from custodes.encryption.text_cipher import TextCipher  # noqa: PLC0415

            self._texts = {name: TextCipher(secret) for name, secret in named}

    @classmethod
    def kept_in(cls, path: Path) -> Keys:
        """The keys of a file, as :func:`add_key` writes it. Raises ``OSError``, and ``ValueError`` for another file."""
        return cls(_read(path))

    @property
    def current(self) -> str | None:
        """The name of the key for what is written; ``None`` where nothing is encrypted."""
        return self.files.current

    @property
    def names(self) -> list[str]:
        """All, the one for what is written first."""
        return list(self._texts)

    def hide(self, kind: str, text: str) -> str:
        """A text that is to be looked for: the same each time, under one key. ``kind`` is the field it is of."""
        if self.current is None:
            return text
        encrypted = self._texts[self.current].encrypt(text, [kind.encode()])
        return hidden_by(self.current) + _text(encrypted)

    def show(self, kind: str, text: str) -> str:
        """What was hidden. What was not, or under a key that is not there, is as it is."""
        name, encrypted = _parted(text, _LOOKED_FOR)
        if name not in self._texts:
            return text
        try:
            return self._texts[name].decrypt(_bytes(encrypted), [kind.encode()])
        except ValueError:
            return text

    def wrap(self, text: str) -> str:
        """A text that nobody looks for: another each time."""
        if self.current is None:
            return text
        nonce = secrets.token_bytes(_NONCE)
        encrypted = self._texts[self.current].encrypt(text, [b"", nonce])
        return wrapped_by(self.current) + _text(nonce + encrypted)

    def unwrap(self, text: str) -> str:
        """What was wrapped; else as :meth:`show`."""
        name, encrypted = _parted(text, _WRAPPED)
        if name not in self._texts:
            return text
        try:
            data = _bytes(encrypted)
            return self._texts[name].decrypt(data[_NONCE:], [b"", data[:_NONCE]])
        except ValueError:
            return text

    def hide_group(self, text: str) -> str:
        """A group as JSON, with the people in it hidden."""
        if self.current is None:
            return text
        return group_text({name: self._hidden(name, value) for name, value in json.loads(text).items()})

    def show_group(self, text: str) -> str:
        """The group again."""
        if not self._texts or '"~' not in text:
            return text
        return group_text({name: self.show(name, value) for name, value in json.loads(text).items()})

    def _hidden(self, name: str, value: str) -> str:
        return value if name in NOT_PEOPLE else self.hide(name, value)


NO_KEYS = Keys()


def add_key(path: Path, name: str) -> None:
    """Makes a key, by which everything is encrypted from now on, and a file where there is none.

    Raises ``OSError``, and ``ValueError`` for a name that is none or taken, and for a file that is none of keys.
    """
    named = [(name, secrets.token_bytes(_LENGTH)), *(_read(path) if path.exists() else [])]
    Keys(named)
    _write(path, named)


def remove_key(path: Path, name: str) -> None:
    """Lets go of a key: what is still encrypted under it is lost. Raises as :func:`add_key`; ``KeyError`` for none."""
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
            raise ValueError(f"{path}:{number} is no key: a name, a space, 32 bytes in base64") from error
    return named


def _write(path: Path, named: Sequence[tuple[str, bytes]]) -> None:
    fresh = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write("# Keys of Custodes. By the first is written; keep the others until nothing needs them.\n")
        file.writelines(f"{name} {base64.b64encode(secret).decode()}\n" for name, secret in named)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def group_text(group: dict[str, str]) -> str:
    """A group in the one way it is written."""
    return json.dumps(group, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def hidden_by(key: str) -> str:
    """How texts begin that were hidden by a key."""
    return f"{_LOOKED_FOR}{key}~"


def wrapped_by(key: str) -> str:
    """How texts begin that were wrapped by a key."""
    return f"{_WRAPPED}{key}~"


def _parted(text: str, beginning: str) -> tuple[str, str]:
    """The name of the key, and what is encrypted; nothing of a text that is not."""
    if not text.startswith(beginning):
        return "", ""
    name, _, encrypted = text.removeprefix(beginning).partition("~")
    return name, encrypted


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
