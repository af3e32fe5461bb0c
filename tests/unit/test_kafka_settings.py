"""Settings of the connection to Kafka: faults in keys, values and files, and tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from certificates import write_ca, write_certificate
from commands import custodes
from custodes.config.kafka_sign_in import KafkaSignInSettings
from custodes.config.model import KafkaSourceSettings
from custodes.sources.client import setting_faults
from custodes.sources.secret_files import file_faults
from custodes.sources.sign_in import BrokerSignInError, TokenProvider, read_secret
from token_server import TokenServer


def settings(**client: Any) -> KafkaSourceSettings:
    return KafkaSourceSettings(bootstrap_servers=["127.0.0.1:9092"], topics=["t"], client=client)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("sasl_plain_password", 12345, "must be text, and is a number"),
        ("sasl_plain_username", 7, "must be text, and is a number"),
        ("ssl_password", 1.5, "must be text, and is a number"),
        ("ssl_cafile", ["ca.pem"], "must be text, and is list"),
        ("security_protocol", False, "must be text, and is bool"),
        ("group_instance_id", 3, "must be text, and is a number"),
        ("ssl_check_hostname", "no", "must be true or false"),
        ("fetch_max_bytes", "1 MB", "must be a number"),
        ("security_protocol", "SSL_SASL", "is 'SSL_SASL', which is unknown"),
        ("sasl_mechanism", "SCRAM", "is 'SCRAM', which is unknown"),
    ],
)
def test_a_value_of_another_type_is_a_fault_that_names_the_key_only(name: str, value: Any, said: str) -> None:
    (fault,) = setting_faults(settings(**{name: value}))
    assert fault.message == f"source.kafka.client.{name} {said}"
    assert name in {"security_protocol", "sasl_mechanism"} or str(value) not in str(fault)


def test_usual_settings_have_no_faults() -> None:
    usual = {
        "security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_plain_username": "u",
        "sasl_plain_password": "p", "ssl_cafile": "ca.pem", "ssl_check_hostname": True, "fetch_max_bytes": 1 << 20,
        "acks": "all", "linger_ms": 5, "retries": 3, "consumer_timeout_ms": 1000, "compression_type": None,
        "isolation_level": "read_committed",
    }  # fmt: skip
    assert setting_faults(settings(**usual)) == []


@pytest.mark.parametrize(
    ("sign_in", "client", "said"),
    [
        ({}, {}, "must have username and password_file, or token_url, client_id and client_secret_file"),
        ({"username": "u"}, {}, "password_file must be set too"),
        ({"password_file": "p"}, {}, "username must be set too"),
        ({"token_url": "https://x/"}, {}, "client_id and client_secret_file must be set too"),
        ({"username": "u", "password_file": "p", "client_id": "c"}, {}, "must have username and password_file, or"),
        ({"username": "u", "password_file": "p", "scope": "s"}, {}, "scope and token_ca_file need token_url"),
        ({"token_url": "http://login.example/", "client_id": "c", "client_secret_file": "s"}, {}, "must use https"),
        (
            {"username": "u", "password_file": "p"},
            {"sasl_mechanism": "PLAIN"},
            "sign_in replaces client.sasl_mechanism",
        ),
        ({"username": "u", "password_file": "p"}, {"security_protocol": "SSL"}, "client.security_protocol is SSL, not"),
        ({"username": 1234, "password_file": "p"}, {}, "source.kafka.sign_in.username: Input should be a valid string"),
    ],
)
def test_a_sign_in_that_cannot_be_is_a_fault_with_its_line(
    tmp_path: Path, sign_in: dict[str, Any], client: dict[str, Any], said: str
) -> None:
    (tmp_path / "custodes.yaml").write_text(
        f"source:\n  kafka:\n    bootstrap_servers: [127.0.0.1:1]\n    topics: [t]\n"
        f"    client: {client}\n    sign_in: {sign_in}\n"
    )
    checked = custodes("check", "--offline", "-c", "custodes.yaml", cwd=tmp_path)
    told = " ".join(checked.stderr.decode().split())
    assert checked.returncode == 2, told
    assert said in told
    assert "custodes.yaml:" in told


def test_a_number_without_quotes_is_a_fault_of_check_and_run(tmp_path: Path) -> None:
    (tmp_path / "custodes.yaml").write_text(
        "source: {kafka: {bootstrap_servers: [127.0.0.1:1], topics: [t], client: {sasl_plain_password: 4711}}}\n"
    )
    for command in (["check", "-c", "custodes.yaml"], ["run", "-c", "custodes.yaml", "--listen", "127.0.0.1:0"]):
        done = custodes(*command, cwd=tmp_path)
        told = " ".join(done.stderr.decode().split())
        assert done.returncode == 2, told
        assert "source.kafka.client.sasl_plain_password must be text, and is a number (put it in quotes)" in told
        assert "4711" not in told
        assert "Traceback" not in told


def test_unusable_files_are_named(tmp_path: Path) -> None:
    ca = trustme.CA()
    write_ca(tmp_path / "ca.pem", ca)
    certificate = write_certificate(tmp_path / "client.pem", ca, "custodes.example")
    other = write_certificate(tmp_path / "other.pem", ca, "custodes.example")
    (tmp_path / "noise.pem").write_text("not a certificate\n")
    key = serialization.load_pem_private_key(certificate.read_bytes(), password=None)
    (tmp_path / "locked.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )

    def told(**client: str) -> list[str]:
        paths = {name: value if name == "ssl_password" else str(tmp_path / value) for name, value in client.items()}
        return [fault.message.replace(f"{tmp_path}/", "") for fault in file_faults(settings(**paths))]

    assert told(ssl_cafile="ca.pem", ssl_certfile="client.pem") == []
    assert told(ssl_certfile="client.pem", ssl_keyfile="locked.pem", ssl_password="secret") == []
    assert told(ssl_cafile="none.pem") == [
        "source.kafka.client.ssl_cafile: none.pem cannot be read: No such file or directory"
    ]
    assert "does not contain PEM certificates" in told(ssl_cafile="noise.pem")[0]
    assert "does not contain a PEM certificate with its key" in told(ssl_certfile="noise.pem")[0]
    assert "the key is not the key of the certificate" in told(ssl_certfile="client.pem", ssl_keyfile=other.name)[0]
    assert told(ssl_certfile="client.pem", ssl_keyfile="locked.pem") == [
        "source.kafka.client.ssl_keyfile is encrypted: set ssl_password"
    ]
    wrong = told(ssl_certfile="client.pem", ssl_keyfile="locked.pem", ssl_password="other")
    assert "ssl_password is wrong" in wrong[0]
    assert told(ssl_keyfile="client.pem") == ["source.kafka.client.ssl_keyfile needs ssl_certfile"]


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), end=st.sampled_from(["", "\n", "\r\n"]))
def test_a_secret_is_the_text_of_its_file_without_the_line_end(
    tmp_path_factory: pytest.TempPathFactory, text: str, end: str
) -> None:
    secret = text.rstrip("\r\n")
    path = tmp_path_factory.getbasetemp() / "secret"
    path.write_bytes((secret + end).encode())
    if secret:
        assert read_secret(path) == secret
    else:
        with pytest.raises(BrokerSignInError, match="is empty"):
            read_secret(path)


def test_a_secret_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xff\xfe")
    with pytest.raises(BrokerSignInError, match="is not UTF-8 text"):
        read_secret(tmp_path / "secret")


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    server = TokenServer("custodes: me", "a secret: +/", lifetime=100)
    yield server
    server.stop()


def test_a_token_is_used_until_it_must_be_renewed_and_outlives_an_outage(tokens: TokenServer, tmp_path: Path) -> None:
    secret, now = tmp_path / "secret", [0.0]
    secret.write_text("a secret: +/\n")
    by_token = KafkaSignInSettings(token_url=tokens.url, client_id="custodes: me", client_secret_file=secret)
    provider = TokenProvider(by_token, clock=lambda: now[0])
    first = provider.token()
    now[0] = 79
    assert (provider.token(), tokens.issued) == (first, 1)
    tokens.is_up = False
    now[0] = 99
    assert provider.token() == first, "the endpoint is down, and the token is still valid"
    now[0] = 101
    with pytest.raises(BrokerSignInError, match=r"no token from .*: rejected \(503: temporarily_unavailable\)"):
        provider.token()
    tokens.is_up, tokens.secret = True, "changed"
    with pytest.raises(BrokerSignInError, match="client_id or client_secret_file is wrong"):
        provider.token()
    secret.write_text("changed")
    provider.token()
    provider.discard()
    provider.token()
    assert tokens.issued == 3
