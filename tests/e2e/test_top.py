"""`custodes top` on a running monitor, also over TLS."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
import yaml

from accesses import write_accesses
from commands import custodes
from servers import CUSTODES, Server, free_port, get, get_json


def start(place: Path, **http: str) -> tuple[Server, str]:
    write_accesses(place / "events.jsonl", "P0042", 200)
    address = f"127.0.0.1:{free_port()}"
    config = {"source": {"file": {"paths": ["events.jsonl"]}}, "http": {"listen": address, **http}}
    (place / "custodes.yaml").write_text(yaml.safe_dump(config))
    return Server(place / "monitor", [CUSTODES, "run", "-c", place / "custodes.yaml"]), address


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[str]:
    server, address = start(tmp_path)
    server.wait_for("the file to end", lambda: get_json(f"http://{address}/api/v1/status")["finished"])
    yield f"http://{address}"
    server.stop()


def test_top_prints_once_in_a_pipe(monitor: str, tmp_path: Path) -> None:
    done = custodes("top", "--url", monitor)
    shown = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    assert "200 events" in shown
    assert "Bulk lookups" in shown
    told = json.loads(custodes("top", "--url", monitor, "--json").stdout)
    assert told["status"]["events"] == 200
    assert {"rule", "peak_ratio", "groups"} == set(told["rules"][0])


def test_an_unreachable_monitor_is_reported() -> None:
    done = custodes("top", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 2
    assert b"no monitor answers at" in done.stderr


def test_with_accounts_top_needs_a_token(monitor: str, tmp_path: Path) -> None:
    added = custodes("accounts", "add", "ines", "--role", "viewer", cwd=tmp_path, stdin=b"correct horse battery\n")
    assert added.returncode == 0, added.stderr
    done = custodes("top", "--url", monitor)
    assert (done.returncode, b"answers 401 (set CUSTODES_TOKEN" in done.stderr) == (2, True), done.stderr
    made = custodes("accounts", "token", "ines", "--label", "terminal", "--expires", "1d", cwd=tmp_path)
    token = made.stdout.decode().strip()
    done = custodes("top", "--url", monitor, env={"CUSTODES_TOKEN": token})
    assert (done.returncode, b"200 events" in done.stdout) == (0, True), done.stderr
    (listed,) = json.loads(custodes("accounts", "tokens", "--json", cwd=tmp_path).stdout)
    assert (listed["label"], listed["permissions"], listed["seen_at"] is None) == ("terminal", ["see"], False)
    assert token.encode() not in custodes("accounts", "tokens", cwd=tmp_path).stdout
    assert custodes("accounts", "revoke", "terminal", cwd=tmp_path).returncode == 0
    assert custodes("top", "--url", monitor, env={"CUSTODES_TOKEN": token}).returncode == 2
    done = custodes("accounts", "token", "ines", "--label", "more", "--may", "reveal", cwd=tmp_path)
    assert (done.returncode, b"of ines does not include reveal" in done.stderr) == (2, True)
    done = custodes("accounts", "token", "ines", "--label", "more", "--expires", "soon", cwd=tmp_path)
    assert done.returncode == 2


def test_with_a_certificate_it_serves_tls_only(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server, address = start(tmp_path, certificate="certificate.pem", certificate_key="key.pem")
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))

    def answers() -> bool:
        with urllib.request.urlopen(f"https://{address}/-/healthy", context=context, timeout=5) as answer:
            assert answer.headers["Strict-Transport-Security"]
            return bool(answer.status == 200)

    server.wait_for("it to answer", answers)
    with urllib.request.urlopen(f"https://{address}/", context=context, timeout=5) as answer:
        assert "; Secure" in answer.headers["Set-Cookie"]
    with pytest.raises(OSError, match=r"."):
        get(f"http://{address}/-/healthy")
    done = custodes("top", "--url", f"https://{address}", "--ca", tmp_path / "ca.pem")
    assert (done.returncode, b"200 events" in done.stdout) == (0, True), done.stderr
    assert custodes("top", "--url", f"https://{address}").returncode == 2
    assert server.stop() == 0
    (tmp_path / "key.pem").write_text("no key")
    done = custodes("run", "-c", "custodes.yaml", cwd=tmp_path)
    assert (done.returncode, b"TLS certificate or key cannot be loaded" in done.stderr) == (2, True), done.stderr
