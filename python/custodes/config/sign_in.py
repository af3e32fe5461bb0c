"""`http.oidc`: sign-in through an OpenID Connect provider."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from custodes.config.section import Section


def _ours(url: str) -> str:
    if not url.startswith(("https://", "http://localhost", "http://127.0.0.1", "http://[::1]")):
        raise ValueError(f"'{url}' must use https: an attacker in between could otherwise sign in as any user")
    return url.rstrip("/")


def _issuer(url: str) -> str:
    _ours(url)
    return url


class OidcSettings(Section):
    """Sign-in through the organisation's identity provider; local accounts remain available."""

    issuer: Annotated[str, AfterValidator(_issuer)] = Field(
        description="URL of the provider, exactly as in its tokens, e.g. https://login.example/realms/staff."
    )
    client_id: str = Field(min_length=1, description="Client id of Custodes at the provider.")
    client_secret_file: Path = Field(description="File with the client secret from the provider.")
    url: Annotated[str, AfterValidator(_ours)] = Field(
        description="URL at which browsers reach the console. Register `URL/sign-in/back` as redirect URI at the "
        "provider."
    )
    roles: dict[str, Literal["viewer", "investigator", "author", "admin", "auditor"]] = Field(
        min_length=1,
        description="Role for each group of the provider. With several groups, the first one listed here decides; "
        "users in no listed group are refused.",
    )
    resources: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="Resources each group may access, e.g. `hotel.*`: union of the patterns of all groups of a user; "
        "users in no listed group are unrestricted.",
    )
    roles_claim: str = Field("groups", description="Claim of the ID token that has the groups.")
    name_claim: str = Field(
        "preferred_username", description="Claim of the ID token that has the account name, used in the audit trail."
    )
    scopes: str = Field("openid profile", pattern=r"(^|.* )openid( .*|$)", description="Requested scopes.")
    title: str = Field("Sign in with your organisation", max_length=60, description="Text of the sign-in button.")
