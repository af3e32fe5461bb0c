"""OpenID Connect: accepts only current tokens for this client, signed by the provider, for a sign-in started here."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

import httpx
import oidc_provider_mock
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from starlette.testclient import TestClient

from custodes.accounts.audit import AuditEntry, AuditTrail
from custodes.accounts.oidc import OidcError, OidcProvider, PendingSignIn
from custodes.accounts.roles import Role
from custodes.config.sign_in import OidcSettings
from custodes.console import build_app
from custodes.console.sign_in.oidc import FederatedSignIn
from harness import MonitorHarness

HS256, NONE = b'{"alg":"HS256","kid":"first"}', b'{"alg":"none"}'
ROLES = {"privacy-office": Role.INVESTIGATOR, "operators": Role.ADMIN}


class Issuer:
    """A provider that returns claims given by the test."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "first"})
        self.keys = [self.key]
        self.token = ""
        self.about: dict[str, Any] = {}
        self.asked = 0
        outer = self

        class IssuerHandler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                if self.path.endswith("openid-configuration"):
                    self._answer(outer.about)
                else:
                    self._answer(dict(KeySet([*outer.keys]).as_dict()))

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                assert form["code_verifier"][0]
                self._answer({"access_token": "x", "token_type": "Bearer", "id_token": outer.token})

            def _answer(self, content: dict[str, Any]) -> None:
                body = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing to read."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), IssuerHandler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.about = {
            "issuer": self.url, "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token", "jwks_uri": f"{self.url}/keys",
        }  # fmt: skip
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def says(self, begun: PendingSignIn, key: RSAKey | None = None, **claims: Any) -> None:
        key = key or self.key
        right = {
            "iss": self.url, "aud": "custodes", "sub": "17", "nonce": begun.nonce, "iat": int(time.time()),
            "exp": int(time.time()) + 300, "preferred_username": "Eva", "groups": ["staff", "privacy-office"],
        }  # fmt: skip
        self.token = jwt.encode({"alg": "RS256", "kid": key.kid}, right | claims, key)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.server.shutdown()
    issuer.server.server_close()


def provider_at(
    url: str, clock: Any = time.time, resources: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> OidcProvider:
    return OidcProvider(
        url, "custodes", "a secret", "http://custodes/sign-in/back", roles=ROLES, resources=resources,
        roles_claim="groups", name_claim="preferred_username", scopes="openid profile", clock=clock,
    )  # fmt: skip


def test_a_user_gets_name_and_role_from_the_provider(issuer: Issuer) -> None:
    provider = provider_at(issuer.url)
    address, begun = provider.begin("/findings")
    query = parse_qs(urlsplit(address).query)
    assert query["code_challenge_method"] == ["S256"]
    assert (query["state"], query["nonce"]) == ([begun.state], [begun.nonce])
    assert begun.verifier not in address
    issuer.says(begun, groups=["operators", "privacy-office"])
    identity = provider.finish(PendingSignIn.read(begun.as_text()), begun.state, "code")
    assert (identity.name, identity.role, identity.wanted) == ("eva", Role.INVESTIGATOR, "/findings")
    assert (identity.issuer, identity.subject) == (issuer.url, "17")
    assert identity.reach.is_everything


@pytest.mark.parametrize(
    ("groups", "patterns"),
    [
        (["privacy-office"], ()),
        (["privacy-office", "hotels"], ("hotel.*",)),
        (["privacy-office", "hotels", "roads"], ("driver", "hotel.*", "vehicle.*")),
        (["privacy-office", "hotels", "all"], ()),
    ],
)
def test_a_user_gets_the_resources_of_all_groups(issuer: Issuer, groups: list[str], patterns: tuple[str, ...]) -> None:
    resources = {"hotels": ["hotel.*"], "roads": ["vehicle.*", "driver"], "all": ["*"]}
    provider = provider_at(issuer.url, resources=resources)
    _, begun = provider.begin("/findings")
    issuer.says(begun, groups=groups)
    assert provider.finish(begun, begun.state, "code").reach.patterns == patterns


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_invalid_id_tokens_are_refused(issuer: Issuer) -> None:
    provider = provider_at(issuer.url)
    _, begun = provider.begin("/")
    stranger = RSAKey.generate_key(2048, {"kid": "first"})
    wrong: list[dict[str, Any]] = [
        {"iss": "https://another.example"}, {"aud": "another"}, {"aud": ["another"]}, {"nonce": "another"},
        {"exp": int(time.time()) - 120}, {"iat": int(time.time()) + 3600}, {"sub": None}, {"azp": "another"},
        {"preferred_username": None}, {"groups": ["staff"]}, {"groups": None}, {"groups": {"privacy-office": 1}},
        {"key": stranger},
    ]  # fmt: skip
    for claims in wrong:
        issuer.says(begun, **claims)
        with pytest.raises(OidcError):
            provider.finish(begun, begun.state, "code")
    issuer.says(begun)
    header, claims_, _ = issuer.token.split(".")
    right_claims = base64.urlsafe_b64decode(f"{claims_}==")
    # The public key used as a shared secret: anyone could sign with it.
    confused = f"{encoded(HS256)}.{encoded(right_claims)}"
    by_public = hmac.digest(issuer.key.as_pem(private=False), confused.encode(), "sha256")
    unsigned = f"{encoded(NONE)}.{encoded(right_claims)}."
    for token in ("", "x", unsigned, f"{header}.{encoded(right_claims)}.", f"{confused}.{encoded(by_public)}"):
        issuer.token = token
        with pytest.raises(OidcError):
            provider.finish(begun, begun.state, "code")
    issuer.says(begun)
    with pytest.raises(OidcError, match="not started here"):
        provider.finish(begun, "another", "code")
    late = provider_at(issuer.url, lambda: time.time() + 601)
    with pytest.raises(OidcError, match="too long"):
        late.finish(begun, begun.state, "code")
    assert provider.finish(begun, begun.state, "code").name == "eva"


def test_new_provider_keys_are_fetched_with_a_rate_limit(issuer: Issuer) -> None:
    now = time.time()
    provider = provider_at(issuer.url, lambda: now)
    _, begun = provider.begin("/")
    fresh = RSAKey.generate_key(2048, {"kid": "second"})
    issuer.says(begun, key=fresh)
    asked = issuer.asked
    with pytest.raises(OidcError):
        provider.finish(begun, begun.state, "code")
    assert issuer.asked == asked, "tokens with unknown keys must not cause unlimited requests"
    issuer.keys.append(fresh)
    now += 61
    assert provider.finish(begun, begun.state, "code").name == "eva"


def test_a_provider_with_another_issuer_or_without_https_is_refused(issuer: Issuer) -> None:
    with pytest.raises(OidcError, match="cannot be read"):
        provider_at("http://127.0.0.1:1").check()
    for name, value in (("issuer", "https://another.example"), ("token_endpoint", "http://provider.example/token")):
        issuer.about = issuer.about | {name: value}
        with pytest.raises(OidcError, match="cannot be read"):
            provider_at(issuer.url).check()


@pytest.fixture
def users() -> dict[str, dict[str, Any]]:
    return {
        "17": {"preferred_username": "Eva", "groups": ["privacy-office"]},
        "18": {"preferred_username": "eva", "groups": ["operators"]},
        "19": {"preferred_username": "guest", "groups": []},
    }


@pytest.fixture
def door(tmp_path: Path, users: dict[str, dict[str, Any]]) -> Iterator[tuple[MonitorHarness, TestClient]]:
    """A console without local accounts and with an identity provider."""
    known = [oidc_provider_mock.User(sub=sub, claims=claims) for sub, claims in users.items()]
    with oidc_provider_mock.run_server_in_thread(user_claims=known) as server:
        bench = MonitorHarness(tmp_path)
        elsewhere = FederatedSignIn(provider_at(f"http://localhost:{server.server_port}"), "Sign in at work")
        app = build_app(bench.monitor, secrets=bench.secrets, provider=elsewhere)
        with TestClient(app, base_url="http://custodes") as client:
            yield bench, client
        bench.close()


def go(client: TestClient, sub: str) -> httpx.Response:
    """Signs in at the provider as a user; returns the answer."""
    out = client.get("/sign-in/elsewhere?next=/rules", follow_redirects=False)
    assert out.status_code == 303
    back = httpx.post(out.headers["location"], data={"sub": sub}, follow_redirects=False)
    address = urlsplit(back.headers["location"])
    return client.get(f"{address.path}?{address.query}", follow_redirects=False)  # type: ignore[return-value]


def looks(bench: MonitorHarness) -> list[AuditEntry]:
    return [look for _, look in AuditTrail(bench.store.peoples).after(0)]


def test_sign_in_requires_the_provider(door: tuple[MonitorHarness, TestClient]) -> None:
    bench, client = door
    assert client.get("/rules", follow_redirects=False).headers["location"] == "/sign-in?next=/rules"
    assert client.get("/api/v1/findings").status_code == 401
    page = client.get("/sign-in?next=/rules").text
    assert 'href="/sign-in/elsewhere?next=/rules"' in page
    assert "Password" not in page, "nobody has one"
    answer = go(client, "17")
    assert 'content="0;url=/rules"' in answer.text
    page = client.get("/rules").text
    assert "eva · investigator" in page
    did = [(look.account, look.action) for look in looks(bench)]
    assert ("eva", "sign in") in did


def test_users_without_role_or_with_anothers_name_are_refused(door: tuple[MonitorHarness, TestClient]) -> None:
    bench, client = door
    assert go(client, "17").status_code == 200
    client.cookies.clear()
    for sub, why in (("18", "another user"), ("19", "your groups has a role")):
        answer = go(client, sub)
        assert answer.status_code == 401
        assert why in answer.text
        assert client.get("/rules", follow_redirects=False).status_code == 303
    assert sum(look.action == "refused" for look in looks(bench)) == 2


def test_a_callback_for_another_browser_is_refused(door: tuple[MonitorHarness, TestClient]) -> None:
    """Otherwise a user could be signed in as another without noticing, and work under that name."""
    _, client = door
    out = client.get("/sign-in/elsewhere", follow_redirects=False)
    back = httpx.post(out.headers["location"], data={"sub": "17"}, follow_redirects=False)
    address = urlsplit(back.headers["location"])
    client.cookies.clear()
    answer = client.get(f"{address.path}?{address.query}", follow_redirects=False)
    assert (answer.status_code, "custodes" in client.cookies) == (401, False)


def test_the_configuration_checks_roles_and_requires_https() -> None:
    names = get_args(OidcSettings.model_fields["roles"].annotation)[1]
    assert set(get_args(names)) == {role.value for role in Role}
    right = {
        "issuer": "https://login.example", "client_id": "custodes", "client_secret_file": "s", "url": "https://c.example/",
        "roles": {"x": "viewer"},
    }  # fmt: skip
    assert OidcSettings.model_validate(right).url == "https://c.example"
    for name in ("issuer", "url"):
        with pytest.raises(ValueError, match="must use https"):
            OidcSettings.model_validate(right | {name: "http://login.example"})
    with pytest.raises(ValueError, match="scopes"):
        OidcSettings.model_validate(right | {"scopes": "profile"})
