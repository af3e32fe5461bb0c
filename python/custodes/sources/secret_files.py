"""Checks of the files that a connection to the brokers needs: certificates, keys, passwords and client secrets."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from custodes.config import Fault
from custodes.config.model import KafkaSourceSettings as KafkaSettings
from custodes.sources.sign_in import BrokerSignInError, read_secret, trusted_by

_NO_FILE = "see source.kafka.client"


def file_faults(settings: KafkaSettings) -> list[Fault]:
    """Returns the faults of files that are missing, unreadable, or have another content than their setting needs."""
    return [*_secret_faults(settings), *_tls_faults(settings)]


def _secret_faults(settings: KafkaSettings) -> Iterator[Fault]:
    sign_in = settings.sign_in
    if sign_in is None:
        return
    for name in ("password_file", "client_secret_file"):
        path = getattr(sign_in, name)
        if path is None:
            continue
        try:
            read_secret(path)
        except BrokerSignInError as error:
            yield Fault(f"source.kafka.sign_in.{name}: {error}")
    try:
        trusted_by(sign_in.token_ca_file)
    except BrokerSignInError as error:
        yield Fault(f"source.kafka.sign_in.token_ca_file: {error}")


def _tls_faults(settings: KafkaSettings) -> Iterator[Fault]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    files = {
        name: value
        for name in ("ssl_cafile", "ssl_crlfile", "ssl_certfile", "ssl_keyfile")
        if isinstance(value := settings.client.get(name), str)
    }
    for name in ("ssl_cafile", "ssl_crlfile"):
        if name in files:
            try:
                context.load_verify_locations(files[name])
            except OSError as error:
                yield Fault(
                    f"source.kafka.client.{name}: {files[name]} {_problem(error, 'PEM certificates')}", hint=_NO_FILE
                )
    if "ssl_keyfile" in files and "ssl_certfile" not in files:
        yield Fault("source.kafka.client.ssl_keyfile needs ssl_certfile", hint=_NO_FILE)
    if "ssl_certfile" not in files:
        return
    asked: list[str] = []

    def password() -> str:
        asked.append(_password(settings))
        return asked[-1]

    try:
        context.load_cert_chain(files["ssl_certfile"], files.get("ssl_keyfile"), password)
    except _NoPasswordError:
        yield Fault("source.kafka.client.ssl_keyfile is encrypted: set ssl_password", hint=_NO_FILE)
    except OSError as error:
        names = " or ".join(files[name] for name in ("ssl_certfile", "ssl_keyfile") if name in files)
        # OpenSSL's error for a wrong password is the one for a damaged file.
        locked = "cannot be decrypted: ssl_password is wrong" if asked and isinstance(error, ssl.SSLError) else None
        problem = locked or _problem(error, "a PEM certificate with its key")
        yield Fault(f"source.kafka.client.ssl_certfile: {names} {problem}", hint=_NO_FILE)


class _NoPasswordError(Exception):
    """The key is encrypted, and no password is set. OpenSSL would otherwise ask for it on the terminal."""


def _password(settings: KafkaSettings) -> str:
    password = settings.client.get("ssl_password")
    if not isinstance(password, str):
        raise _NoPasswordError
    return password


def _problem(error: OSError, wanted: str) -> str:
    if not isinstance(error, ssl.SSLError):
        return f"cannot be read: {error.strerror or error}"
    reason = error.reason or ""
    if "KEY_VALUES_MISMATCH" in reason:
        return "do not belong together: the key is not the key of the certificate"
    return f"does not contain {wanted}" + (f" ({reason})" if reason else "")
