"""`custodes demo`: the planted insiders are found, displayed and counted, and it ends on request."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

from commands import custodes
from servers import CUSTODES, Server, eventually, free_port, get, get_json

INSIDERS = {
    "Bulk lookups": {"actor": "P0042"},
    "Celebrity snooping": {"subject": "110101196903158888"},
    "Slow copying": {"actor": "P0117"},
}


def test_once_ends_with_a_summary_that_names_the_insiders() -> None:
    done = custodes("demo", "--once", "--speed", "max", "--listen", "127.0.0.1:0")
    assert done.returncode == 0, done.stderr.decode()
    summary = done.stdout.decode().split("Planted insiders:")[1]
    for rule, group in INSIDERS.items():
        (value,) = group.values()
        assert f"{value}: found by {rule}" in summary


def test_the_summary_as_json() -> None:
    done = custodes("demo", "--json", "--speed", "max", "--listen", "127.0.0.1:0")
    summary = json.loads(done.stdout)
    assert [insider["found_by"] for insider in summary["insiders"]] == list(INSIDERS)
    assert all(0 < insider["look_ups_before"] < insider["look_ups"] for insider in summary["insiders"])


def test_the_demo_is_live_within_thirty_seconds_and_stops_within_two(tmp_path: Path) -> None:
    begun = time.monotonic()
    address = f"127.0.0.1:{free_port()}"
    server = Server(tmp_path, [CUSTODES, "demo", "--listen", address])
    base = f"http://{address}"
    server.wait_for("the demo to be ready", lambda: get(f"{base}/-/ready"))

    def found() -> bool:
        findings = get_json(f"{base}/api/v1/findings")["findings"]
        groups = {finding["rule"]: finding["group"] for finding in findings}
        return groups == INSIDERS

    server.wait_for("all insiders and no other actors", found, 30)
    assert time.monotonic() - begun < 30
    page = get(base)
    exposition = get(f"{base}/metrics")
    terminal = server.log.read_text()
    for rule, group in INSIDERS.items():
        ((field, value),) = group.items()
        assert f"{field} {value}" in page
        assert f'custodes_findings_total{{level="high",rule="{rule}"}} 1.0' in exposition
        assert f"{rule}: {field} {value}" in terminal
    told = time.monotonic()
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(10) == 0
    assert time.monotonic() - told < 2
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


def test_a_taken_port_is_a_clear_error(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    first = Server(tmp_path, [CUSTODES, "demo", "--listen", address])
    eventually("the first to listen", lambda: get(f"http://{address}/-/healthy"))
    second = custodes("demo", "--listen", address)
    assert second.returncode == 2
    assert f"cannot listen on {address}: Address already in use" in second.stderr.decode()
    assert first.stop() == 0
