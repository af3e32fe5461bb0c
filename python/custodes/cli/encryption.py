"""The keys by which things are encrypted, as the configuration has them."""

from __future__ import annotations

from custodes.config import Fault, FaultsError
from custodes.config.model import Config
from custodes.encryption.keys import NO_KEYS, Keys


def keys_of(settings: Config) -> Keys:
    """Those of the installation; none where nothing is encrypted. Raises :class:`FaultsError`."""
    if settings.encryption is None:
        return NO_KEYS
    try:
        keys = Keys.kept_in(settings.encryption.keys)
    except (OSError, ValueError) as error:
        hint = "custodes keys add NAME makes one"
        raise FaultsError([Fault(f"the keys cannot be had: {error}", hint=hint)]) from error
    if keys.current is None:
        raise FaultsError([Fault(f"{settings.encryption.keys} has no key", hint="custodes keys add NAME makes one")])
    return keys
