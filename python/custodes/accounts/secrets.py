"""The secret of an installation, and what is made of it: pseudonyms, addresses that name nobody, tokens of forms."""

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

from custodes.state.secret_file import LENGTH, secret_kept_in


class Secrets:
    """Keys of one installation. Whoever has the secret can tell who a pseudonym is."""

    def __init__(self, secret: bytes) -> None:
        """``secret`` is 32 random bytes."""
        self._pseudonyms = _derived(secret, b"pseudonyms", 32)
        self._forms = _derived(secret, b"forms", 32)
        self._addresses = AESSIV(_derived(secret, b"addresses", 64))

    @classmethod
    def fresh(cls) -> Secrets:
        """Of a process that leaves nothing behind."""
        return cls(secrets.token_bytes(LENGTH))

    @classmethod
    def kept_in(cls, path: Path) -> Secrets:
        """The secret in a file, made where there is none. Raises ``OSError``, and ``ValueError`` for another file."""
        return cls(secret_kept_in(path))

    def pseudonym(self, kind: str, name: str) -> str:
        """What a person is called where the name is not to be seen: the same each time, and not to be turned back."""
        digest = hmac.digest(self._pseudonyms, f"{kind}\0{name}".encode(), hashlib.sha256)
        return f"{kind}-{base64.b32encode(digest)[:8].decode().lower()}"

    def hidden(self, kind: str, name: str) -> str:
        """A name for an address: it is found again from it, here alone."""
        # There must be something to seal, and a name may be empty.
        sealed = self._addresses.encrypt(b"=" + name.encode(), [kind.encode()])
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def shown(self, kind: str, hidden: str) -> str:
        """The name again. Raises ``ValueError`` for what this installation did not hide."""
        try:
            sealed = base64.urlsafe_b64decode(hidden + "=" * (-len(hidden) % 4))
            name = self._addresses.decrypt(sealed, [kind.encode()])
        except (InvalidTag, ValueError) as error:
            raise ValueError("no such address") from error
        return name[1:].decode()

    def form_token(self, visitor: str) -> str:
        """What a form must send along, so that it came from a page that this visitor was given."""
        return hmac.new(self._forms, visitor.encode(), hashlib.sha256).hexdigest()

    def is_form_token(self, visitor: str, token: str) -> bool:
        return hmac.compare_digest(self.form_token(visitor).encode(), token.encode())


def _derived(secret: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt=None, info=b"custodes " + purpose).derive(secret)
