"""Loads the encryption keys that the configuration names."""

from __future__ import annotations

from custodes.config import Fault, FaultsError
from custodes.config.model import Config
from custodes.encryption.keys import NO_KEYS, Keys


def keys_of(settings: Config) -> Keys:
    """Returns the keys of the installation; none without encryption. Raises :class:`FaultsError`."""
    if settings.encryption is None:
        return NO_KEYS
    try:
        keys = Keys.kept_in(settings.encryption.keys)
    except (OSError, ValueError) as error:
        hint = "custodes keys add NAME creates a key"
        raise FaultsError([Fault(f"the keys cannot be read: {error}", hint=hint)]) from error
    if keys.current is None:
        raise FaultsError(
            [Fault(f"{settings.encryption.keys} contains no key", hint="custodes keys add NAME creates a key")]
        )
    return keys
