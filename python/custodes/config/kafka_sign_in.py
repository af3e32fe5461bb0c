"""`source.kafka.sign_in`: sign-in to the brokers with secrets from files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from custodes.config.section import Section


def _https(url: str) -> str:
    if not url.startswith(("https://", "http://localhost:", "http://127.0.0.1:", "http://[::1]:")):
        raise ValueError(f"'{url}' must use https: an attacker in between could otherwise read the client secret")
    return url


class KafkaSignInSettings(Section):
    """Sign-in to the brokers: by user name and password, or by an OAuth token. Secrets are files, read again for each
    new connection and each new token."""

    username: str | None = Field(None, min_length=1, description="User name at the brokers; needs password_file.")
    password_file: Path | None = Field(None, description="File with the password of the user.")
    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism of the password. A token always uses OAUTHBEARER."
    )
    token_url: Annotated[str, AfterValidator(_https)] | None = Field(
        None,
        description="Token endpoint of the identity provider. Custodes fetches tokens there by client credentials (RFC "
        "6749, section 4.4) and signs in with OAUTHBEARER.",
    )
    client_id: str | None = Field(None, min_length=1, description="Client id of Custodes at the token endpoint.")
    client_secret_file: Path | None = Field(None, description="File with the client secret for the token endpoint.")
    scope: str | None = Field(None, min_length=1, description="Scope of the token, if the provider needs one.")
    token_ca_file: Path | None = Field(
        None, description="PEM file with the CA of the token endpoint. Default: the CAs of the system."
    )

    @property
    def by_token(self) -> bool:
        """Whether the sign-in uses OAUTHBEARER."""
        return self.token_url is not None

    @model_validator(mode="after")
    def _is_one_way(self) -> KafkaSignInSettings:
        by_password = {"username": self.username, "password_file": self.password_file}
        by_token = {
            "token_url": self.token_url, "client_id": self.client_id, "client_secret_file": self.client_secret_file,
        }  # fmt: skip
        ways = [way for way in (by_password, by_token) if any(value is not None for value in way.values())]
        if len(ways) != 1:
            raise ValueError("must have username and password_file, or token_url, client_id and client_secret_file")
        if missing := [name for name, value in ways[0].items() if value is None]:
            raise ValueError(f"{' and '.join(missing)} must be set too")
        if not self.by_token and (self.scope is not None or self.token_ca_file is not None):
            raise ValueError("scope and token_ca_file need token_url")
        return self
