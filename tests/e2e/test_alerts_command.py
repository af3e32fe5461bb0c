"""`custodes alerts`: test alerts and undelivered ones."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from accesses import write_accesses
from commands import custodes
from recording_server import RecordingServer
from servers import CUSTODES, Server, free_port, get


def run(place: Path, *arguments: str) -> tuple[int, str, str]:
    done = custodes("alerts", *arguments, cwd=place)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def configure(place: Path, ear: RecordingServer) -> str:
    address = f"127.0.0.1:{free_port()}"
    (place / "url").write_text(f"{ear.url}/slack")
    receivers = [
        {"kind": "webhook", "name": "hook", "url": f"{ear.url}/hook"},
        {"kind": "slack", "name": "channel", "url_file": "url"},
        {"kind": "alertmanager", "name": "pager", "urls": [ear.url]},
    ]
    config = {
        "source": {"file": {"paths": ["events.jsonl"]}},
        "http": {"listen": address},
        "alerts": {"receivers": receivers},
    }
    (place / "custodes.yaml").write_text(yaml.safe_dump(config))
    (place / "custodes-state").mkdir()
    return address


def test_a_test_alert_is_sent(tmp_path: Path, ear: RecordingServer) -> None:
    configure(tmp_path, ear)
    for name, path in (("hook", "/hook"), ("channel", "/slack"), ("pager", "/api/v2/alerts")):
        code, said, fault = run(tmp_path, "test", name)
        assert (code, said) == (0, f"{name} accepted the alert\n"), fault
        assert ear.heard[-1].path == path
        assert b"A test of Custodes" in ear.heard[-1].body
    ear.answer = lambda heard: 500
    code, _, fault = run(tmp_path, "test", "hook")
    assert (code, "127.0.0.1 answers 500" in fault) == (1, True)
    code, _, fault = run(tmp_path, "test", "nobody")
    assert (code, "configured: hook, channel, pager" in fault) == (2, True)
    (tmp_path / "url").unlink()
    code, _, fault = run(tmp_path, "test", "channel")
    assert (code, "No such file" in fault) == (1, True)
    (tmp_path / "events.jsonl").touch()
    done = custodes("run", cwd=tmp_path)
    assert (done.returncode, b"alerts.receivers: channel: " in done.stderr) == (2, True), done.stderr


def test_a_refused_alert_is_sent_once_accepted(tmp_path: Path, ear: RecordingServer) -> None:
    address = configure(tmp_path, ear)
    write_accesses(tmp_path / "events.jsonl", "P0042", 200)
    ear.answer = lambda heard: 400 if heard.path == "/hook" else 200
    server = Server(tmp_path / "monitor", [CUSTODES, "run", "-c", tmp_path / "custodes.yaml"])
    server.wait_for(
        "it to be put aside",
        lambda: 'custodes_alerts_undelivered{receiver="hook"} 2.0' in get(f"http://{address}/metrics"),
    )
    assert server.stop() == 0
    aside, _ = json.loads(run(tmp_path, "undelivered", "--json")[1])
    assert (aside["receiver"], aside["kind"], aside["rule"]) == ("hook", "opened", "Bulk lookups")
    assert "hook" in run(tmp_path, "undelivered")[1]
    code, _, fault = run(tmp_path, "retry", "hook")
    assert (code, "answers 400" in fault) == (1, True)
    ear.answer = lambda heard: 200
    assert run(tmp_path, "retry", "hook")[:2] == (0, "2 sent\n")
    assert [heard.json["type"] for heard in ear.heard[-2:]] == ["finding.opened", "finding.closed"]
    assert json.loads(run(tmp_path, "undelivered", "--json")[1]) == []
    assert run(tmp_path, "forget", "hook")[:2] == (0, "0 discarded\n")
