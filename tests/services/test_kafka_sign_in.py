"""Sign-in to a real broker with TLS, SCRAM and OAuth; a failure is named by `check` and in the log."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from kafka import KafkaProducer

from certificates import write_ca, write_certificate
from commands import custodes
from servers import CUSTODES, Kafka, Listener, Server, free_port, get, get_json
from token_server import TokenServer

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]

LOGIN_MODULES = "org.apache.kafka.common.security"
SCRAM = {
    "sasl.enabled.mechanisms": "SCRAM-SHA-256",
    "scram-sha-256.sasl.jaas.config": f"{LOGIN_MODULES}.scram.ScramLoginModule required;",
}


@dataclass(frozen=True)
class Brokers:
    """One broker with many listeners, and what its clients need."""

    kafka: Kafka
    folder: Path
    tokens: TokenServer
    foreign: TokenServer
    """Its tokens are signed with a key that the broker does not know."""

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def settings(self, listener: str, sign_in: dict[str, Any] | None = None, **client: Any) -> dict[str, Any]:
        """Returns ``source.kafka`` for a listener; the CA is known unless ``client`` says otherwise."""
        client = {"ssl_cafile": self.file("ca.pem"), "metadata_max_age_ms": 2000, **client}
        client = {name: value for name, value in client.items() if value is not None}
        source: dict[str, Any] = {"topics": ["signed-in"], "group_id": "custodes", "client": client}
        source["bootstrap_servers"] = [self.kafka.addresses.get(listener, self.kafka.bootstrap)]
        return source | ({} if sign_in is None else {"sign_in": sign_in})


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    folder = tmp_path_factory.mktemp("sign-in")
    ca, stranger, now = trustme.CA(), trustme.CA(), datetime.now(UTC)
    trusted = write_ca(folder / "ca.pem", ca)
    write_ca(folder / "other-ca.pem", stranger)
    write_certificate(folder / "client.pem", ca, "custodes.example")
    write_certificate(folder / "stranger.pem", stranger, "custodes.example")
    stores = {
        "good": write_certificate(folder / "good.pem", ca, "127.0.0.1"),
        "expired": write_certificate(
            folder / "expired.pem", ca, "127.0.0.1",
            not_before=now - timedelta(days=9), not_after=now - timedelta(days=1),
        ),
        "elsewhere": write_certificate(folder / "elsewhere.pem", ca, "kafka.example"),
    }  # fmt: skip
    tokens, foreign = TokenServer("custodes", "client secret", lifetime=20), TokenServer("custodes", "client secret")
    keys = tokens.write_keys(folder / "keys.json").as_uri()

    def tls(store: str) -> dict[str, str | Path]:
        return {
            "ssl.keystore.type": "PEM", "ssl.keystore.location": stores[store],
            "ssl.truststore.type": "PEM", "ssl.truststore.location": trusted,
        }  # fmt: skip

    oauth = {
        "sasl.enabled.mechanisms": "OAUTHBEARER",
        "oauthbearer.sasl.jaas.config": f"{LOGIN_MODULES}.oauthbearer.OAuthBearerLoginModule required;",
        "oauthbearer.sasl.server.callback.handler.class": (
            f"{LOGIN_MODULES}.oauthbearer.OAuthBearerValidatorCallbackHandler"
        ),
        "oauthbearer.sasl.oauthbearer.jwks.endpoint.url": keys,
        "oauthbearer.sasl.oauthbearer.expected.audience": "kafka",
    }
    listeners = [
        Listener("TLS", "SSL", tls("good")),
        Listener("EXPIRED", "SSL", tls("expired")),
        Listener("ELSEWHERE", "SSL", tls("elsewhere")),
        Listener("MUTUAL", "SSL", tls("good") | {"ssl.client.auth": "required"}),
        Listener("SCRAM", "SASL_SSL", tls("good") | SCRAM),
        Listener("OAUTH", "SASL_SSL", tls("good") | oauth),
    ]
    java = [f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={keys}"]
    kafka = Kafka(folder / "kafka", password="good", listeners=listeners, java=java)
    kafka.create_topic("signed-in", 1)
    (folder / "password").write_text("good\n")
    (folder / "wrong").write_text("other\n")
    (folder / "empty").write_text("\n")
    (folder / "client-secret").write_text("client secret\n")
    yield Brokers(kafka, folder, tokens, foreign)
    kafka.stop()
    for server in (tokens, foreign):
        server.stop()


@dataclass(frozen=True)
class Case:
    """A connection, and what `check` and the log must say about it."""

    listener: str
    client: dict[str, Any] = field(default_factory=dict)
    """Values that begin with ``@`` are names of files in the folder of the fixture."""
    sign_in: dict[str, Any] | None = None
    said: str = ""
    """Empty for a connection that succeeds."""
    event: str = "brokers_unreachable"


SSL = {"security_protocol": "SSL"}
IN_CLIENT = {
    "security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-256", "sasl_plain_username": "custodes",
}  # fmt: skip
USER = {"username": "custodes", "mechanism": "SCRAM-SHA-256", "password_file": "@password"}
BY_TOKEN = {"token_url": "$tokens", "client_id": "custodes", "client_secret_file": "@client-secret"}
REFUSED = "brokers_refused"
WRONG_PASSWORD = "the user name 'custodes' or its password is wrong"

CASES = {
    "tls": Case("TLS", SSL),
    "the CAs of the system": Case("TLS", SSL | {"ssl_cafile": None}, said="is signed by an unknown CA"),
    "another CA": Case("TLS", SSL | {"ssl_cafile": "@other-ca.pem"}, said="is signed by an unknown CA"),
    "expired": Case("EXPIRED", SSL, said="has expired"),
    "another host": Case("ELSEWHERE", SSL, said="is for another host name"),
    "client certificate": Case("MUTUAL", SSL | {"ssl_certfile": "@client.pem"}),
    "no client certificate": Case("MUTUAL", SSL, said="requires a client certificate"),
    "client certificate of another CA": Case(
        "MUTUAL", SSL | {"ssl_certfile": "@stranger.pem"}, said="does not accept the certificate in"
    ),
    "TLS on a port without": Case("PLAINTEXT", SSL, said="it may not speak TLS on this port"),
    "no TLS on a port with": Case("TLS", {}, said="the broker speaks TLS on this port"),
    "sign-in on a port without": Case(
        "TLS", IN_CLIENT | {"sasl_plain_password": "good"}, said="expects no sign-in on this port", event=REFUSED
    ),
    "no sign-in on a port with": Case("SCRAM", SSL, said="it may expect another security_protocol than SSL"),
    "password": Case("SCRAM", sign_in=USER),
    "password in client": Case("SCRAM", IN_CLIENT | {"sasl_plain_password": "good"}),
    "wrong password": Case("SCRAM", sign_in=USER | {"password_file": "@wrong"}, said=WRONG_PASSWORD, event=REFUSED),
    "wrong password in client": Case(
        "SCRAM", IN_CLIENT | {"sasl_plain_password": "other"}, said=WRONG_PASSWORD, event=REFUSED
    ),
    "wrong user": Case(
        "SCRAM", sign_in=USER | {"username": "nobody"}, said="the user name 'nobody' or its password", event=REFUSED
    ),
    "another mechanism": Case(
        "SCRAM", sign_in=USER | {"mechanism": "SCRAM-SHA-512"}, said="does not offer SCRAM-SHA-512", event=REFUSED
    ),
    "token": Case("OAUTH", sign_in=BY_TOKEN | {"scope": "kafka"}),
    "wrong client secret": Case(
        "OAUTH", sign_in=BY_TOKEN | {"client_secret_file": "@wrong"}, said="client_secret_file is wrong", event=REFUSED
    ),
    "token of another issuer": Case(
        "OAUTH", sign_in=BY_TOKEN | {"token_url": "$foreign"}, said="the broker rejects the token", event=REFUSED
    ),
    "no token endpoint": Case(
        "OAUTH", sign_in=BY_TOKEN | {"token_url": "http://127.0.0.1:1/"}, said="no token from", event=REFUSED
    ),
}  # fmt: skip


def resolved(brokers: Brokers, settings: dict[str, Any] | None) -> dict[str, Any] | None:
    if settings is None:
        return None

    def value(text: Any) -> Any:
        if isinstance(text, str) and text.startswith("@"):
            return brokers.file(text[1:])
        return {"$tokens": brokers.tokens.url, "$foreign": brokers.foreign.url}.get(text, text)

    return {name: value(text) for name, text in settings.items()}


def write_config(path: Path, source: dict[str, Any]) -> str:
    base = f"127.0.0.1:{free_port()}"
    config = {"source": {"kafka": source}, "state": {"interval": "1s"}, "http": {"listen": base}}
    path.write_text(yaml.safe_dump(config))
    return f"http://{base}"


@pytest.mark.parametrize("name", CASES)
def test_check_and_log_name_the_cause(brokers: Brokers, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    client = resolved(brokers, case.client) or {}
    source = brokers.settings(case.listener, resolved(brokers, case.sign_in), **client)
    base = write_config(tmp_path / "custodes.yaml", source | {"group_id": tmp_path.name})
    server = Server(tmp_path / "monitor", [CUSTODES, "run", "-c", tmp_path / "custodes.yaml"])
    try:
        checked = custodes("check", "-c", "custodes.yaml", cwd=tmp_path)
        said = checked.stderr.decode()
        assert checked.returncode == (1 if case.said else 0), said
        assert case.said in " ".join(said.split())
        assert "Traceback" not in said

        def is_named() -> bool:
            return any(case.event in line and case.said in line for line in server.log.read_text().splitlines())

        if case.said:
            server.wait_for("the log to name the cause", is_named)
        else:
            server.wait_for("it to be ready", lambda: get(f"{base}/-/ready"))
        assert server.stop() == 0
        log = server.log.read_text()
        assert "Traceback" not in log
        if not case.said:
            assert "brokers_" not in log
    finally:
        server.kill()


def send(brokers: Brokers, actor: str, count: int) -> None:
    producer = KafkaProducer(bootstrap_servers=brokers.kafka.bootstrap)
    for n in range(count):
        event = {"time": time.time(), "actor": actor, "subject": f"S{n}", "action": "read"}
        producer.send("signed-in", json.dumps(event).encode())
    producer.close()


def events(base: str) -> int:
    return int(get_json(f"{base}/api/v1/status")["events"])


def reload(base: str, server: Server) -> None:
    known = server.log.read_text().count("configuration_reloaded")
    server.process.send_signal(1)
    server.wait_for("the reload", lambda: server.log.read_text().count("configuration_reloaded") > known)
    assert "custodes_reload_failed 0.0" in get(f"{base}/metrics")


def test_a_changed_password_needs_no_restart(brokers: Brokers, tmp_path: Path) -> None:
    """The broker asks for the password again every three seconds."""
    secret = tmp_path / "password"
    secret.write_text("good\n")
    source = brokers.settings("SCRAM", USER | {"password_file": str(secret)}) | {"group_id": tmp_path.name}
    base = write_config(tmp_path / "custodes.yaml", source)
    server = Server(tmp_path / "monitor", [CUSTODES, "run", "-c", tmp_path / "custodes.yaml"])
    try:
        server.wait_for("it to be ready", lambda: get(f"{base}/-/ready"))
        before = events(base)
        brokers.kafka.set_password("changed")
        server.wait_for("the log to name the cause", lambda: WRONG_PASSWORD in server.log.read_text(), 60)
        send(brokers, "P1", 10)
        # A secret that is missing while it is replaced is named, too; the reload keeps what is in force.
        secret.unlink()
        server.wait_for("the log to name the file", lambda: f"{secret} cannot be read" in server.log.read_text())
        server.process.send_signal(1)
        server.wait_for("the reload to fail", lambda: "custodes_reload_failed 1.0" in get(f"{base}/metrics"))
        secret.write_text("changed")
        reload(base, server)
        server.wait_for("all to be counted", lambda: events(base) >= before + 10, 60)
        assert server.stop() == 0
        assert "Traceback" not in server.log.read_text()
    finally:
        server.kill()
        brokers.kafka.set_password("good")


def test_tokens_are_renewed_and_a_changed_client_secret_needs_no_restart(brokers: Brokers, tmp_path: Path) -> None:
    """Tokens are valid for 20 s, and the broker asks for one again every three seconds."""
    secret = tmp_path / "client-secret"
    secret.write_text("client secret")
    source = brokers.settings("OAUTH", BY_TOKEN | {"token_url": brokers.tokens.url, "client_secret_file": str(secret)})
    base = write_config(tmp_path / "custodes.yaml", source | {"group_id": tmp_path.name})
    server = Server(tmp_path / "monitor", [CUSTODES, "run", "-c", tmp_path / "custodes.yaml"])
    try:
        server.wait_for("it to be ready", lambda: get(f"{base}/-/ready"))
        issued = brokers.tokens.issued
        server.wait_for("another token to be fetched", lambda: brokers.tokens.issued > issued, 60)
        assert "brokers_" not in server.log.read_text()
        brokers.tokens.secret = "changed"
        wrong = "client_secret_file is wrong"
        server.wait_for("the log to name the cause", lambda: wrong in server.log.read_text(), 60)
        before = events(base)
        send(brokers, "P1", 10)
        secret.write_text("changed")
        reload(base, server)
        server.wait_for("all to be counted", lambda: events(base) >= before + 10, 60)
        assert server.stop() == 0
        assert "Traceback" not in server.log.read_text()
    finally:
        server.kill()
        brokers.tokens.secret = "client secret"
