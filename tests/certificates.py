"""Certificates for tests, as PEM files that Kafka's brokers and clients read."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization


def write_certificate(
    path: Path, ca: trustme.CA, *names: str, not_before: datetime | None = None, not_after: datetime | None = None
) -> Path:
    """Writes a certificate for the names, with its key in PKCS 8, to one file; returns its path."""
    issued = ca.issue_cert(*names, not_before=not_before, not_after=not_after)
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), password=None)
    as_text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    path.write_bytes(as_text + chain)
    return path


def write_ca(path: Path, ca: trustme.CA) -> Path:
    """Writes the certificate of a CA; returns its path."""
    ca.cert_pem.write_to_path(str(path))
    return path
