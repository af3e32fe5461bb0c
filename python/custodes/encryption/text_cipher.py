"""AES-SIV (RFC 5297) of single texts, under a key that is derived from an installation's (HKDF, RFC 5869)."""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_LENGTH = 64
"""Bytes of the derived key: AES-256 needs two of 32."""


class TextCipher:
    """Encrypts texts under one key. Used from any thread."""

    def __init__(self, secret: bytes) -> None:
        self._siv = AESSIV(HKDF(hashes.SHA256(), _LENGTH, salt=None, info=b"custodes texts").derive(secret))

    def encrypt(self, text: str, beside: list[bytes]) -> bytes:
        """The same for the same text and the same ``beside``, which decrypting needs again."""
        # There must be something to encrypt, and a text may be empty.
        return self._siv.encrypt(b"=" + text.encode(), beside)

    def decrypt(self, encrypted: bytes, beside: list[bytes]) -> str:
        """The text again. Raises ``ValueError`` for what was not encrypted under this key with this ``beside``."""
        try:
            return self._siv.decrypt(encrypted, beside)[1:].decode()
        except InvalidTag as error:
            raise ValueError("it was encrypted under another key, or is damaged") from error
