"""The installation's secret, and the keys derived from it: pseudonyms, opaque addresses, form tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from custodes.config.normal_forms import NormalForms
from custodes.state.secret_file import LENGTH, secret_kept_in


class Secrets:
    """Keys of one installation. The secret allows to invert pseudonyms."""

    def __init__(self, secret: bytes) -> None:
        """``secret`` is 32 random bytes."""
        self._pseudonyms = _derived(secret, b"pseudonyms", 32)
        self._forms = _derived(secret, b"forms", 32)
        self._addresses = AESSIV(_derived(secret, b"addresses", 64))
        self.forms = NormalForms()
        """Normal forms, so that all spellings of a name have one pseudonym; replaced when the mapping changes."""

    @classmethod
    def fresh(cls) -> Secrets:
        """Returns keys for a process that stores nothing."""
        return cls(secrets.token_bytes(LENGTH))

    @classmethod
    def kept_in(cls, path: Path) -> Secrets:
        """Reads the secret from a file, created if missing. Raises ``OSError``, ``ValueError`` for an invalid file."""
        return cls(secret_kept_in(path))

    def pseudonym(self, kind: str, name: str) -> str:
        """Returns the pseudonym of a person: always the same, and not invertible without the secret."""
        digest = hmac.digest(self._pseudonyms, f"{kind}\0{self.forms.normal(kind, name)}".encode(), hashlib.sha256)
        return f"{kind}-{base64.b32encode(digest)[:8].decode().lower()}"

    def hidden(self, kind: str, name: str) -> str:
        """Encrypts a name for use in an address of the console; only this installation can decrypt it."""
        # AES-SIV rejects an empty plaintext, and a name may be empty.
        sealed = self._addresses.encrypt(b"=" + name.encode(), [kind.encode()])
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def shown(self, kind: str, hidden: str) -> str:
        """Decrypts a name. Raises ``ValueError`` for a text of another installation."""
        try:
            sealed = base64.urlsafe_b64decode(hidden + "=" * (-len(hidden) % 4))
            name = self._addresses.decrypt(sealed, [kind.encode()])
        except (InvalidTag, ValueError) as error:
            raise ValueError("no such address") from error
        return name[1:].decode()

    def form_token(self, visitor: str) -> str:
        """Returns the token that a form must contain, which proves that this installation served the form to this
        visitor."""
        return hmac.new(self._forms, visitor.encode(), hashlib.sha256).hexdigest()

    def is_form_token(self, visitor: str, token: str) -> bool:
        return hmac.compare_digest(self.form_token(visitor).encode(), token.encode())


def _derived(secret: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt=None, info=b"custodes " + purpose).derive(secret)
