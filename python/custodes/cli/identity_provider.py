"""Creates the OpenID Connect provider that the configuration names."""

from __future__ import annotations

from custodes.accounts.oidc import BACK, OidcProvider
from custodes.accounts.resource_scope import ResourceScope
from custodes.accounts.roles import Role
from custodes.config import Fault, FaultsError
from custodes.config.model import Config


def provider_of(settings: Config) -> OidcProvider | None:
    """Returns the OpenID Connect provider; ``None`` without one. Raises :class:`FaultsError`."""
    oidc = settings.http.oidc
    if oidc is None:
        return None
    try:
        secret = oidc.client_secret_file.read_text().strip()
    except (OSError, ValueError) as error:
        fault = Fault(f"the provider's secret cannot be read: {error}", hint="set http.oidc.client_secret_file")
        raise FaultsError([fault]) from error
    try:
        resources = {group: ResourceScope.of(patterns).patterns or ("*",) for group, patterns in oidc.resources.items()}
    except ValueError as error:
        raise FaultsError([Fault(f"{error}", hint="see http.oidc.resources")]) from error
    return OidcProvider(
        oidc.issuer, oidc.client_id, secret, f"{oidc.url}{BACK}",
        roles={group: Role(role) for group, role in oidc.roles.items()}, resources=resources,
        roles_claim=oidc.roles_claim, name_claim=oidc.name_claim, scopes=oidc.scopes,
    )  # fmt: skip
