"""AES-SIV (RFC 5297) for single texts, with a key derived from the installation's key (HKDF, RFC 5869)."""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_LENGTH = 64
"""Length of the derived key in bytes: AES-256-SIV needs two keys of 32."""


class TextCipher:
    """Encrypts texts under one key. Safe to use from any thread."""

    def __init__(self, secret: bytes) -> None:
        self._siv = AESSIV(HKDF(hashes.SHA256(), _LENGTH, salt=None, info=b"custodes texts").derive(secret))

    def encrypt(self, text: str, beside: list[bytes]) -> bytes:
        """Encrypts deterministically: equal texts with equal ``beside`` (associated data) give equal ciphertexts."""
        # AES-SIV rejects an empty plaintext, and a text may be empty.
        return self._siv.encrypt(b"=" + text.encode(), beside)

    def decrypt(self, encrypted: bytes, beside: list[bytes]) -> str:
        """Decrypts. Raises ``ValueError`` for a ciphertext of another key or with another ``beside``."""
        try:
            return self._siv.decrypt(encrypted, beside)[1:].decode()
        except InvalidTag as error:
            raise ValueError("the text was encrypted under another key, or is damaged") from error
