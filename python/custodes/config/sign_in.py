"""`http.oidc`: signing in at a provider of OpenID Connect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from custodes.config.section import Section


def _ours(url: str) -> str:
    if not url.startswith(("https://", "http://localhost", "http://127.0.0.1", "http://[::1]")):
        raise ValueError(f"'{url}' is not had by https: who is between could sign in as anybody")
    return url.rstrip("/")


def _issuer(url: str) -> str:
    _ours(url)
    return url


class OidcSettings(Section):
    """People sign in where they do for everything else; local accounts stay beside that."""

    issuer: Annotated[str, AfterValidator(_issuer)] = Field(
        description="The provider's URL, exactly as it names itself, e.g. https://login.example/realms/staff."
    )
    client_id: str = Field(min_length=1, description="What the provider calls Custodes.")
    client_secret_file: Path = Field(description="A file with the secret that the provider gave for it.")
    url: Annotated[str, AfterValidator(_ours)] = Field(
        description="Where people's browsers reach the console. The provider is to know `URL/sign-in/back`."
    )
    roles: dict[str, Literal["viewer", "investigator", "author", "admin", "auditor"]] = Field(
        min_length=1,
        description="The role of each group of the provider's. Of several that somebody is in the first here counts; "
        "who is in none does not get in.",
    )
    resources: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="The resources that each group may look into, e.g. `hotel.*`: of several that somebody is in, "
        "those of all; who is in none of these looks into everything that the role allows.",
    )
    roles_claim: str = Field("groups", description="Where the ID token has the groups.")
    name_claim: str = Field(
        "preferred_username", description="Where it has the name of the account, which the audit trail will have."
    )
    scopes: str = Field("openid profile", pattern=r"(^|.* )openid( .*|$)", description="What is asked for.")
    title: str = Field("Sign in with your organisation", max_length=60, description="What the button says.")
