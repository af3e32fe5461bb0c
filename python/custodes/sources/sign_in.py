"""Sign-in to Kafka's brokers: passwords and OAuth tokens, from secrets in files. A secret is read
each time it is used, so that a changed secret needs no restart."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote_plus

from kafka.errors import KafkaError
from kafka.net.sasl.oauth import AbstractTokenProvider

from custodes.config.kafka_sign_in import KafkaSignInSettings

if TYPE_CHECKING:
    import httpx

_T = TypeVar("_T")
_TOKEN_TIMEOUT_SECONDS = 5.0
_USED_SHARE = 0.8
"""Share of a token's lifetime after which the next one is fetched."""
_LIFETIME_SECONDS = 300.0
"""Lifetime of a token whose endpoint does not state it."""


class BrokerSignInError(KafkaError):  # type: ignore[misc]
    """A sign-in that cannot be attempted: a secret is unreadable, or the token endpoint does not give a token."""

    def __str__(self) -> str:
        return str(self.args[0])


def read_secret(path: Path) -> str:
    """Returns the content of a secret's file, without the end of its last line. Raises :class:`BrokerSignInError`."""
    try:
        secret = path.read_bytes().decode().rstrip("\r\n")
    except OSError as error:
        raise BrokerSignInError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BrokerSignInError(f"{path} is not UTF-8 text") from error
    if not secret:
        raise BrokerSignInError(f"{path} is empty")
    return secret


class SignIn(Protocol):
    """The sign-in of one client of kafka-python."""

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of kafka-python for this sign-in. Raises :class:`BrokerSignInError` for an unreadable password."""

    def renew(self, settings: dict[str, Any]) -> None:
        """Updates the settings of a connection before it is opened. Raises :class:`BrokerSignInError`."""

    def rejected(self) -> None:
        """Called when a broker has rejected the sign-in."""


def sign_in_of(settings: KafkaSignInSettings | None) -> SignIn:
    """Returns the configured sign-in."""
    if settings is None:
        return NoSignIn()
    return TokenSignIn(settings) if settings.by_token else PasswordSignIn(settings)


class NoSignIn:
    """No sign-in, or one that is among the settings of kafka-python."""

    settings: dict[str, Any] = {}  # noqa: RUF012 - never changed

    def renew(self, settings: dict[str, Any]) -> None: ...

    def rejected(self) -> None: ...


class PasswordSignIn:
    """User name and password; each connection uses the password that the file has at the time."""

    def __init__(self, settings: KafkaSignInSettings) -> None:
        self._settings = settings

    @property
    def settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": self._settings.mechanism,
            "sasl_plain_username": self._settings.username,
        }
        self.renew(settings)
        return settings

    def renew(self, settings: dict[str, Any]) -> None:
        settings["sasl_plain_password"] = read_secret(_set(self._settings.password_file))

    def rejected(self) -> None:
        """Does nothing: the next connection reads the file again."""


class TokenSignIn:
    """OAUTHBEARER; a rejected token is not used again."""

    def __init__(self, settings: KafkaSignInSettings) -> None:
        self._tokens = TokenProvider(settings)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "OAUTHBEARER",
            "sasl_oauth_token_provider": self._tokens,
        }

    def renew(self, settings: dict[str, Any]) -> None:
        """Does nothing: kafka-python asks for the token when it needs one."""

    def rejected(self) -> None:
        self._tokens.discard()


def _set(value: _T | None) -> _T:
    """Returns a setting that the validated configuration always has."""
    if value is None:
        raise ValueError("a setting of the sign-in is missing")
    return value


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """Fetches tokens by client credentials, for kafka-python's OAUTHBEARER. Safe to use from any thread."""

    def __init__(self, settings: KafkaSignInSettings, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._settings, self._clock = settings, clock
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at = self._expires_at = float("-inf")

    def token(self) -> str:
        """Returns a token that has not expired: the last one for most of its lifetime, or a new one.

        Raises :class:`BrokerSignInError`.
        """
        with self._lock:
            if self._clock() < self._renew_at:
                return self._token
            try:
                self._token, lifetime = self._fetch()
            except BrokerSignInError:
                # The last token is still valid; the endpoint is asked again for the next connection.
                if self._clock() < self._expires_at:
                    return self._token
                raise
            now = self._clock()
            self._renew_at, self._expires_at = now + _USED_SHARE * lifetime, now + lifetime
            return self._token

    def discard(self) -> None:
        """Makes the next call fetch a token, with the client secret that the file has then."""
        with self._lock:
            self._renew_at = self._expires_at = float("-inf")

    def _fetch(self) -> tuple[str, float]:
        """Returns a new token and its lifetime in seconds."""
        import httpx  # noqa: PLC0415 - slow, and most installations use no tokens

        settings, url = self._settings, _set(self._settings.token_url)
        secret = read_secret(_set(settings.client_secret_file))
        form = {"grant_type": "client_credentials"} | ({} if settings.scope is None else {"scope": settings.scope})
        # RFC 6749, section 2.3.1: both parts are form-encoded before they are joined.
        credentials = httpx.BasicAuth(quote_plus(_set(settings.client_id)), quote_plus(secret))
        try:
            answer = httpx.post(
                url,
                data=form,
                auth=credentials,
                timeout=_TOKEN_TIMEOUT_SECONDS,
                verify=trusted_by(settings.token_ca_file),
            )
        except httpx.HTTPError as error:
            raise BrokerSignInError(f"no token from {url}: {str(error) or type(error).__name__}") from error
        return _token_in(answer, url)


def _token_in(answer: httpx.Response, url: str) -> tuple[str, float]:
    try:
        fields = answer.json()
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise BrokerSignInError(f"no token from {url}: it answers {answer.status_code}, and not with JSON")
    if not answer.is_success:
        reason = fields.get("error_description") or fields.get("error") or "no reason given"
        rejected = "client_id or client_secret_file is wrong" if fields.get("error") == "invalid_client" else "rejected"
        raise BrokerSignInError(f"no token from {url}: {rejected} ({answer.status_code}: {reason})")
    token, lifetime = fields.get("access_token"), fields.get("expires_in", _LIFETIME_SECONDS)
    if not isinstance(token, str) or not token:
        raise BrokerSignInError(f"no token from {url}: its answer has no access_token")
    try:
        return token, max(float(lifetime), 0.0)
    except (TypeError, ValueError):
        return token, _LIFETIME_SECONDS


def trusted_by(ca_file: Path | None) -> ssl.SSLContext:
    """Returns the CAs to trust. Raises :class:`BrokerSignInError`."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise BrokerSignInError(f"{ca_file} cannot be used as CA file: {error.strerror or error}") from error
