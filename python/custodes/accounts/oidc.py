"""Sign-in through an OpenID Connect provider, by authorization code with PKCE.

The state of a sign-in is stored in the browser, encrypted, so that any of several processes can complete it. Identity
and groups come from the ID token alone, whose signature, issuer, audience, age and nonce are verified.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from custodes.accounts.resource_scope import UNRESTRICTED, ResourceScope
from custodes.accounts.roles import Role

BACK = "/sign-in/back"
"""Path of the redirect URI."""
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Accepted signature algorithms: asymmetric ones only, never ``none`` and never a shared secret."""
_TIMEOUT_SECONDS = 10.0
_KNOWN_SECONDS = 3600.0
"""Seconds for which the provider's metadata is cached."""
_LEAST_AGAIN_SECONDS = 60.0
"""Seconds between two refreshes that unknown keys cause."""
BEGUN_SECONDS = 600
"""Seconds within which a sign-in must be completed."""
_LEEWAY_SECONDS = 60


class OidcError(Exception):
    """The sign-in failed, with the reason."""


@dataclass(frozen=True)
class PendingSignIn:
    """A sign-in in progress."""

    state: str
    nonce: str
    verifier: str
    wanted: str
    """Page to open afterwards."""
    at: float

    def as_text(self) -> str:
        """State for the browser, encrypted."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> PendingSignIn:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class FederatedIdentity:
    """The authenticated user."""

    issuer: str
    subject: str
    """Stable identifier at the provider."""
    name: str
    role: Role
    reach: ResourceScope
    wanted: str


@dataclass(frozen=True)
class _ProviderMetadata:
    """Metadata of the provider."""

    at: float
    authorize: str
    token: str
    keys: KeySet


class OidcProvider:
    """One provider. Safe to use from any thread."""

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str,
        callback: str,
        *,
        roles: Mapping[str, Role],
        resources: Mapping[str, Sequence[str]] = MappingProxyType({}),
        roles_claim: str,
        name_claim: str,
        scopes: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``callback`` is the redirect URI. The first of ``roles``, by group, that matches decides; the patterns of all
        matching ``resources`` are combined. ``clock`` is in epoch seconds."""
        self._issuer = issuer
        self._client_id, self._client_secret = client_id, client_secret
        self._callback = callback
        self._roles, self._roles_claim, self._name_claim = roles, roles_claim, name_claim
        self._resources = resources
        self._scopes = scopes
        self._clock = clock
        self._lock = threading.Lock()
        self._known: _ProviderMetadata | None = None

    def begin(self, wanted: str) -> tuple[str, PendingSignIn]:
        """Returns the authorization URL, and the state to store in the browser. Raises :class:`OidcError`."""
        begun = PendingSignIn(
            secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48), wanted, self._clock()
        )
        challenge = base64.urlsafe_b64encode(hashlib.sha256(begun.verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code", "client_id": self._client_id, "redirect_uri": self._callback,
            "scope": self._scopes, "state": begun.state, "nonce": begun.nonce,
            "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        address = self._about().authorize
        return f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(query)}", begun

    def finish(self, begun: PendingSignIn, state: str, code: str) -> FederatedIdentity:
        """Returns the user who came back from the provider. Raises :class:`OidcError`."""
        if not secrets.compare_digest(state.encode(), begun.state.encode()):
            raise OidcError("this sign-in was not started here")
        if self._clock() - begun.at > BEGUN_SECONDS:
            raise OidcError("the sign-in took too long")
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": self._callback,
            "code_verifier": begun.verifier,
        }  # fmt: skip
        # RFC 6749, section 2.3.1: both parts are form-encoded before they are joined.
        who = httpx.BasicAuth(quote_plus(self._client_id), quote_plus(self._client_secret))
        try:
            answer = httpx.post(self._about().token, data=form, auth=who, timeout=_TIMEOUT_SECONDS)
            token = answer.raise_for_status().json()["id_token"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise OidcError(f"the provider rejected the code: {_said(error)}") from error
        claims = self._claims(str(token), begun.nonce)
        name, groups = self._name(claims), self._groups(claims)
        return FederatedIdentity(
            self._issuer, str(claims["sub"]), name, self._role(groups), self._reach(groups), begun.wanted
        )  # fmt: skip

    def check(self) -> None:
        """Fetches the provider's metadata. Raises :class:`OidcError` if it is unavailable or of another issuer."""
        self._about()

    def _claims(self, token: str, nonce: str) -> dict[str, Any]:
        try:
            try:
                checked = jwt.decode(token, self._about().keys, algorithms=_ALGORITHMS)
            except InvalidKeyIdError:
                # Keys rotate, so an unknown key triggers a refresh.
                checked = jwt.decode(token, self._about(anew=True).keys, algorithms=_ALGORITHMS)
            wanted = jwt.JWTClaimsRegistry(
                now=lambda: int(self._clock()), leeway=_LEEWAY_SECONDS, iss={"essential": True, "value": self._issuer},
                aud={"essential": True, "value": self._client_id}, exp={"essential": True}, iat={"essential": True},
                sub={"essential": True}, nonce={"essential": True, "value": nonce},
            )  # fmt: skip
            wanted.validate(checked.claims)
        except (JoseError, ValueError) as error:
            raise OidcError(f"the provider's token is invalid: {_said(error)}") from error
        claims: dict[str, Any] = checked.claims
        if claims.get("azp", self._client_id) != self._client_id:
            raise OidcError("the provider's token is invalid: it was issued for another client")
        return claims

    def _name(self, claims: Mapping[str, Any]) -> str:
        name = claims.get(self._name_claim)
        if not isinstance(name, str) or not name:
            raise OidcError(f"the provider's token has no claim '{self._name_claim}'")
        return name.lower()

    def _groups(self, claims: Mapping[str, Any]) -> list[Any]:
        told = claims.get(self._roles_claim, [])
        return [told] if isinstance(told, str) else told if isinstance(told, list) else []

    def _reach(self, groups: list[Any]) -> ResourceScope:
        theirs = [patterns for group, patterns in self._resources.items() if group in groups]
        return ResourceScope.of(pattern for patterns in theirs for pattern in patterns) if theirs else UNRESTRICTED

    def _role(self, groups: list[Any]) -> Role:
        for group, role in self._roles.items():
            if group in groups:
                return role
        raise OidcError("none of your groups has a role here")

    def _about(self, *, anew: bool = False) -> _ProviderMetadata:
        with self._lock:
            age = float("inf") if self._known is None else self._clock() - self._known.at
            if self._known is not None and age < (_LEAST_AGAIN_SECONDS if anew else _KNOWN_SECONDS):
                return self._known
            try:
                self._known = self._ask()
            except (httpx.HTTPError, JoseError, ValueError, KeyError, TypeError) as error:
                raise OidcError(f"the metadata of {self._issuer} cannot be read: {_said(error)}") from error
            return self._known

    def _ask(self) -> _ProviderMetadata:
        with httpx.Client(timeout=_TIMEOUT_SECONDS) as client:
            about = client.get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration").raise_for_status().json()
            if about["issuer"] != self._issuer:
                raise ValueError(f"it is {about['issuer']}")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if not is_safe(about[name]):
                    raise ValueError(f"its {name} does not use https")
            keys = KeySet.import_key_set(client.get(about["jwks_uri"]).raise_for_status().json())
        return _ProviderMetadata(self._clock(), about["authorization_endpoint"], about["token_endpoint"], keys)


def is_safe(url: str) -> bool:
    """Returns whether an attacker in between cannot change the response: https, or this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in {"localhost", "127.0.0.1", "::1"})


def _said(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
