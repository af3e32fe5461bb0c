"""A secret in a file, created if missing and readable by its owner only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

LENGTH = 32


def secret_kept_in(path: Path) -> bytes:
    """Returns the 32 random bytes in a file. Raises ``OSError``, and ``ValueError`` for an invalid file."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        secret = path.read_bytes()
        if len(secret) != LENGTH:
            raise ValueError(f"{path} has {len(secret)} bytes and is not a secret of Custodes") from None
        return secret
    secret = secrets.token_bytes(LENGTH)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    return secret
