"""Why a connection to Kafka's brokers failed, in words: what is wrong, and which setting to check."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable, Iterator

from kafka.errors import (
    AuthorizationError,
    IllegalSaslStateError,
    KafkaConnectionError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)

from custodes.config.model import KafkaSourceSettings as KafkaSettings
from custodes.sources.sign_in import BrokerSignInError

REFUSALS = (
    AuthorizationError,
    IllegalSaslStateError,
    SaslAuthenticationFailedError,
    BrokerSignInError,
    UnsupportedSaslMechanismError,
)
"""Errors of brokers that answer and refuse, and of a sign-in that cannot be attempted."""

_NOT_YET_VALID, _EXPIRED, _REVOKED = 9, 10, 23
_UNKNOWN_CAS = frozenset({2, 18, 19, 20, 21})
"""OpenSSL's codes of a certificate whose issuer is not among the trusted CAs."""
_OTHER_NAMES = frozenset({62, 64})
"""OpenSSL's codes of a certificate for another host name or address."""
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST")
_FRAME_LENGTH = re.compile(r"Invalid frame length: (\d+)")
_TLS_ALERT = 0x1503
"""First bytes of an alert of TLS, where kafka-python expects the length of an answer."""
_IN_FRONT = re.compile(r"^(\[Error \d+\] )?(\w+Error: )+")
_NO_ANSWER = (
    "socket disconnected",
    "ConnectionResetError",
    "ECONNRESET",
    "Connection reset",
)


class NoConnectionError(KafkaConnectionError):  # type: ignore[misc]
    """No broker could be reached. The message is the cause in words."""

    def __str__(self) -> str:
        return str(self.args[0])


def most_telling(failures: Iterable[BaseException], settings: KafkaSettings) -> BaseException | None:
    """Returns the first failure whose cause can be named, or else the first one."""
    found = list(failures)
    return next((error for error in found if _named(error, settings)), found[0] if found else None)


def cause_of_failure(error: BaseException, settings: KafkaSettings) -> str:
    """Returns the cause in words; the message of the error if it is another."""
    return _named(error, settings) or _message(error)


def _named(error: BaseException, settings: KafkaSettings) -> str | None:
    for one in _chain(error):
        match one:
            case BrokerSignInError() | NoConnectionError():
                return str(one)
            case SaslAuthenticationFailedError():
                return _rejected(one, settings)
            case UnsupportedSaslMechanismError():
                mechanism = _client(settings, "sasl_mechanism")
                return f"the broker does not offer {mechanism}: check the mechanism of the sign-in"
            case IllegalSaslStateError():
                return "the broker expects no sign-in on this port: check the port, or the security_protocol"
            case ssl.SSLCertVerificationError():
                return _untrusted(one)
            case ssl.SSLError():
                return _tls(one, settings)
            case FileNotFoundError() | PermissionError():
                return f"{_unreadable(settings)} cannot be read: {one.strerror}"
            case _:
                continue
    return _silent(error, settings)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and the errors that it wraps, outermost first."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = [one.__cause__, one.__context__, *one.args]
        waiting += [each for each in inner if isinstance(each, BaseException)]


def _rejected(error: BaseException, settings: KafkaSettings) -> str:
    mechanism = _client(settings, "sasl_mechanism")
    if mechanism == "OAUTHBEARER":
        return f"the broker rejects the token: {_message(error)}"
    user = _client(settings, "sasl_plain_username")
    where = "source.kafka.sign_in" if settings.sign_in else "source.kafka.client"
    return f"authentication failed: the user name '{user}' or its password is wrong, see {where} ({_message(error)})"


def _untrusted(error: ssl.SSLCertVerificationError) -> str:
    code, said = error.verify_code, error.verify_message
    if code in _UNKNOWN_CAS:
        return (
            "the broker's certificate is signed by an unknown CA: set source.kafka.client.ssl_cafile to the file of "
            f"that CA ({said})"
        )
    if code == _EXPIRED:
        return f"the broker's certificate, or one of its CAs, has expired: renew it at the broker ({said})"
    if code == _NOT_YET_VALID:
        return f"the broker's certificate is not valid yet: check the clocks of both machines ({said})"
    if code == _REVOKED:
        return f"the broker's certificate is revoked ({said})"
    if code in _OTHER_NAMES:
        return (
            "the broker's certificate is for another host name: use a name of the certificate in "
            f"source.kafka.bootstrap_servers and in the broker's advertised.listeners ({said.rstrip('.')})"
        )
    return f"the broker's certificate is not trusted: {said}"


def _tls(error: ssl.SSLError, settings: KafkaSettings) -> str:
    reason = error.reason or str(error)
    if any(sign in reason for sign in _NO_TLS):
        return f"the broker does not speak TLS on this port: check source.kafka.client.security_protocol ({reason})"
    if "UNEXPECTED_EOF" in reason:
        return (
            "the broker ended the TLS handshake: it may not speak TLS on this port, check "
            f"source.kafka.client.security_protocol ({reason})"
        )
    if "PROTOCOL_VERSION" in reason or "UNSUPPORTED_PROTOCOL" in reason:
        return f"the broker supports no TLS version from 1.2 on ({reason})"
    if "KEY_VALUES_MISMATCH" in reason:
        return f"ssl_keyfile is not the key of the certificate in ssl_certfile ({reason})"
    if "ALERT" in reason:
        if not settings.client.get("ssl_certfile"):
            return (
                "the broker requires a client certificate: set source.kafka.client.ssl_certfile and ssl_keyfile "
                f"({reason})"
            )
        return f"the broker does not accept the certificate in source.kafka.client.ssl_certfile ({reason})"
    return f"TLS failed: {reason}"


def _unreadable(settings: KafkaSettings) -> str:
    """Returns the files of certificates that cannot be read; OpenSSL does not tell which one it is."""
    files = [(name, settings.client.get(name)) for name in ("ssl_cafile", "ssl_crlfile", "ssl_certfile", "ssl_keyfile")]
    missing = [f"{name} {path}" for name, path in files if isinstance(path, str) and not os.access(path, os.R_OK)]
    return f"source.kafka.client.{' and '.join(missing)}" if missing else "a file of a certificate"


def _silent(error: BaseException, settings: KafkaSettings) -> str | None:
    """Names the cause of a connection that the broker ended without a reason."""
    message = " ".join(str(one) for one in _chain(error))
    if (found := _FRAME_LENGTH.search(message)) and int(found[1]) >> 16 == _TLS_ALERT:
        return "the broker speaks TLS on this port: set source.kafka.client.security_protocol to SSL or SASL_SSL"
    if "ECONNREFUSED" in message or "Connection refused" in message:
        return f"connection refused: no broker listens there ({_message(error)})"
    if not any(sign in message for sign in _NO_ANSWER):
        return None
    protocol = _client(settings, "security_protocol") or "PLAINTEXT"
    return (
        f"the broker ended the connection: it may expect another security_protocol than {protocol} ({_message(error)})"
    )


def _client(settings: KafkaSettings, name: str) -> str | None:
    """Returns a setting of kafka-python in force, if it is a text."""
    sign_in = settings.sign_in
    value = settings.client.get(name)
    if sign_in is not None:
        by_sign_in = {
            "sasl_mechanism": "OAUTHBEARER" if sign_in.by_token else sign_in.mechanism,
            "sasl_plain_username": sign_in.username,
            "security_protocol": value or "SASL_SSL",
        }
        value = by_sign_in.get(name, value)
    return value if isinstance(value, str) else None


def _message(error: BaseException) -> str:
    """Returns an error's message without kafka-python's class names and codes in front."""
    text = (str(error) or type(error).__name__).partition("\n")[0]
    return _IN_FRONT.sub("", text) or text
