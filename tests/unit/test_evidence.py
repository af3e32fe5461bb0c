"""Evidence: log entries, bundle verification, retention, detection of changes."""

from __future__ import annotations

import base64
import json
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete
from starlette.testclient import TestClient

from bundle_oracle import proven
from custodes._core import EvidenceDamagedError
from custodes.database import tables
from custodes.encryption.keys import NO_KEYS
from custodes.evidence.anchors import Anchors, FileAnchor, anchor_at, heads_in
from custodes.evidence.bundle import check, export
from custodes.evidence.entries import EventEntry, FindingEntry, RuleEntry, key_of
from custodes.evidence.log_store import EvidenceStore, open_for_reading
from custodes.evidence.retention import Hold, HoldStore, Retention
from custodes.evidence.verification import verify
from custodes.findings import Finding
from custodes.findings.triage import TriageChange, TriageStore
from custodes.rules import load_rules
from custodes.sources import LineChunk
from custodes.state import FolderInUseError
from harness import START, MonitorHarness, look_ups

DAY = 86_400_000_000
RULE = "Bulk lookups"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[MonitorHarness]:
    bench = MonitorHarness(tmp_path)
    bench.feed(look_ups(["somebody"], ["x"], at=-7200))
    yield bench
    bench.close()


def found(bench: MonitorHarness, actor: str = "P0042") -> Finding:
    return next(one for one in bench.store.page(group={"actor": actor}).findings if one.rule == RULE)


def kept(bench: MonitorHarness, actors: list[str], subjects: int = 150) -> None:
    """Sends look-ups of several subjects by each actor and returns the log's content."""
    bench.feed(look_ups(actors, [f"s{n}" for n in range(subjects)]))
    keep(bench)


def keep(bench: MonitorHarness) -> None:
    for finding in bench.store.page().findings:
        bench.recorder.enqueue(finding)
    bench.recorder.catch_up(at_once=True)


def bundled(bench: MonitorHarness, path: Path, actor: str = "P0042") -> Path:
    with path.open("wb") as file:
        export(bench.evidence_store.log, found(bench, actor).id, file)
    return path


FOLLOWING = """
title: Read
name: read
logsource: {product: custodes}
detection: {x: {action: read}, condition: x}
---
title: Bulk lookups
name: bulk
correlation:
    type: event_count
    rules: [read]
    group-by: [actor]
    timespan: 1h
    condition: {gte: 3}
---
title: Twice
correlation:
    type: event_count
    rules: [bulk]
    generate: true
    group-by: [actor]
    timespan: 1d
    condition: {gte: 2}
---
title: Export
name: export
logsource: {product: custodes}
detection: {x: {action: export}, condition: x}
---
title: Exports, which nobody is told of
name: exports
correlation: {type: event_count, rules: [export], group-by: [actor, resource], timespan: 1h, condition: {gte: 2}}
---
title: Both
level: high
correlation: {type: temporal, rules: [bulk, exports], group-by: [actor], timespan: 1d}
"""


def test_evidence_of_correlations_has_their_findings_and_hidden_events(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(FOLLOWING)
    bench = MonitorHarness(tmp_path / "bench", load_rules([tmp_path / "rules.yml"]))

    def look(actor: str, action: str, minute: int, resource: str = "hotel") -> str:
        time, subject = START + minute * 60, f"s{minute}"
        return json.dumps({"time": time, "actor": actor, "subject": subject, "action": action, "resource": resource})

    # Events of other actors and earlier events are excluded; events that may belong to it are included.
    texts = [look("P1", "export", -1600), *(look("P1", "read", n) for n in range(4)), look("P2", "export", 5)]
    texts += [look("P1", "export", 5), look("P1", "export", 6), look("P1", "export", 7, "tax")]
    bench.feed(LineChunk(0, "".join(f"{text}\n" for text in texts).encode(), 1))
    (both,) = bench.store.page(rule_id="Both").findings
    (bulk,) = bench.store.page(rule_id="bulk").findings
    contribution = bench.contributions.of(both)
    assert contribution is not None
    assert (list(contribution.findings), contribution.is_whole, contribution.curve) == ([bulk], True, [])
    assert [json.loads(one.record)["subject"] for one in contribution.events] == ["s5", "s6", "s7"]
    keep(bench)
    path = tmp_path / "bundle.zip"
    with path.open("wb") as file:
        export(bench.evidence_store.log, both.id, file)
    assert check(path).faults == []
    with zipfile.ZipFile(path) as bundle:
        assert json.loads(bundle.read("parts.ndjson"))["id"] == bulk.id
        assert bulk.id in bundle.read("report.html").decode()
    page = TestClient(bench.app, base_url="http://custodes").get(f"/findings/{both.id}")
    assert "Contributing findings (1)" in page.text
    assert f'href="/findings/{bulk.id}"' in page.text
    bench.close()


def test_a_failing_finding_does_not_delay_the_evidence_of_others(
    bench: MonitorHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = bench.recorder.record

    def refuse_some(finding: Finding) -> bool:
        if finding.group.get("actor") == "P0042":
            raise ValueError("what is behind it cannot be told")
        return record(finding)

    monkeypatch.setattr(bench.recorder, "record", refuse_some)
    with pytest.raises(ValueError, match="cannot be told"):
        kept(bench, ["P0042", "P0007"])
    assert bench.evidence_store.count(found(bench, "P0007").id)
    assert bench.recorder.waiting == sum(one.group == {"actor": "P0042"} for one in bench.store.page().findings)


def test_evidence_includes_events_before_the_opening(bench: MonitorHarness) -> None:
    kept(bench, ["P0042", "P0007"])
    entries = bench.evidence_store.about(found(bench).id)
    events = [entry for entry in entries if isinstance(entry, EventEntry)]
    assert [json.loads(event.record)["subject"] for event in events] == [f"s{n}" for n in range(150)]
    assert {json.loads(event.record)["actor"] for event in events} == {"P0042"}
    (rule,) = (entry for entry in entries if isinstance(entry, RuleEntry))
    assert f"title: {RULE}" in rule.text
    told = entries[-1]
    assert isinstance(told, FindingEntry)
    assert (told.finding, told.events, told.is_whole) == (found(bench).as_dict(), 150, True)
    assert verify(bench.evidence_store.path, [bench.evidence_store.log.key]).faults == []


def test_evidence_includes_events_in_every_spelling(bench: MonitorHarness) -> None:
    spellings = ["P0042", "p0042", " P0042 ", "Ｐ0042", "P\u200b0042"]
    kept(bench, spellings)
    (finding,) = [one for one in bench.store.page().findings if one.rule == RULE]
    events = [entry for entry in bench.evidence_store.about(finding.id) if isinstance(entry, EventEntry)]
    assert {json.loads(event.record)["actor"] for event in events} == set(spellings)
    assert len(events) == 5 * 150


def test_only_what_is_new_is_added(bench: MonitorHarness) -> None:
    kept(bench, ["P0042"])
    size = bench.evidence_store.log.size
    keep(bench)
    assert bench.evidence_store.log.size == size
    bench.feed(look_ups(["P0042"], [f"t{n}" for n in range(10)], at=5, first=1000))
    bench.monitor.commit()
    keep(bench)
    entries = bench.evidence_store.about(found(bench).id)
    subjects = [json.loads(entry.record)["subject"] for entry in entries if isinstance(entry, EventEntry)]
    assert subjects[150:] == [f"t{n}" for n in range(10)]
    told = [entry for entry in entries if isinstance(entry, FindingEntry)]
    assert [entry.events for entry in told] == [150, 160]
    assert sum(isinstance(entry, RuleEntry) for entry in entries) == 1


def test_missing_evidence_is_written_after_the_next_start(bench: MonitorHarness) -> None:
    bench.feed(look_ups(["P0042"], [f"s{n}" for n in range(150)]))
    assert bench.evidence_store.log.size == 0
    bench.now += 60
    bench.recorder.look_back()
    bench.recorder.catch_up(at_once=True)
    assert bench.evidence_store.count(found(bench).id) == 152


def test_a_log_has_one_writer_and_refuses_damage(bench: MonitorHarness, tmp_path: Path) -> None:
    kept(bench, ["P0042"])
    with pytest.raises(FolderInUseError):
        EvidenceStore(bench.evidence_store.path, tmp_path / "evidence.key")
    (segment,) = bench.evidence_store.path.glob("*.evidence")
    data = bytearray(segment.read_bytes())
    data[200] ^= 1
    segment.write_bytes(data)
    with pytest.raises(EvidenceDamagedError, match="not those that were written"):
        open_for_reading(bench.evidence_store.path, NO_KEYS)
    (fault, *_) = verify(bench.evidence_store.path, [bench.evidence_store.log.key]).faults
    assert str(fault).startswith("0000000000000000.evidence, byte 0: entries 0 to")


def test_a_bundle_is_verified_without_our_code(bench: MonitorHarness, tmp_path: Path) -> None:
    kept(bench, ["P0042", "P0007", "P0011"])
    bundle = bundled(bench, tmp_path / "bundle.zip")
    entries = proven(bundle, bench.evidence_store.log.key)
    assert [entry["kind"] for entry in entries] == ["event"] * 150 + ["rule", "finding"]
    checked = check(bundle, bench.evidence_store.log.key)
    assert (checked.events, checked.entries, checked.faults) == (150, 152, [])
    with zipfile.ZipFile(bundle) as file:
        assert sorted(file.namelist()) == [
            "README.txt", "events.ndjson", "finding.json", "proof.json", "report.html", "rules/1.yml",
        ]  # fmt: skip
        report = file.read("report.html").decode()
        assert len(file.read("events.ndjson").splitlines()) == 150
        assert bench.evidence_store.log.key in file.read("README.txt").decode()
    assert report.count("<tr>") == 151
    assert found(bench).id in report


def test_a_name_in_a_report_is_escaped(bench: MonitorHarness, tmp_path: Path) -> None:
    name = "<script>alert(1)</script>"
    kept(bench, [name])
    with zipfile.ZipFile(bundled(bench, tmp_path / "bundle.zip", name)) as file:
        report = file.read("report.html").decode()
    assert "<script" not in report
    assert "&lt;script&gt;alert(1)" in report


def _changed_entry(proof: dict[str, Any]) -> None:
    entry = base64.b64decode(proof["entries"][3]["entry"]).replace(b'"s3\\"', b'"s9\\"')
    proof["entries"][3]["entry"] = base64.b64encode(entry).decode()


def _exchanged(proof: dict[str, Any]) -> None:
    one, other = proof["entries"][3], proof["entries"][4]
    one["entry"], other["entry"] = other["entry"], one["entry"]


def _without_an_event(proof: dict[str, Any]) -> None:
    del proof["entries"][3]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_changed_entry, "entry 3: the entry differs from the log"),
        (_exchanged, "entry 4: the entry differs from the log"),
        (_without_an_event, "the log had 150 events of the finding, and the bundle has 149"),
    ],
)
def test_verification_names_the_change_in_a_bundle(
    bench: MonitorHarness, tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    kept(bench, ["P0042"])
    bundle = bundled(bench, tmp_path / "bundle.zip")
    with zipfile.ZipFile(bundle) as file:
        members = {name: file.read(name) for name in file.namelist()}
    proof = json.loads(members["proof.json"])
    change(proof)
    _zip(bundle, members | {"proof.json": json.dumps(proof).encode()})
    assert any(said in str(fault) for fault in check(bundle, bench.evidence_store.log.key).faults)


def _zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)


def test_a_bundles_files_must_match_its_entries(bench: MonitorHarness, tmp_path: Path) -> None:
    kept(bench, ["P0042"])
    bundle = bundled(bench, tmp_path / "bundle.zip")
    with zipfile.ZipFile(bundle) as file:
        members = {name: file.read(name) for name in file.namelist()}
    for name in ("finding.json", "events.ndjson", "rules/1.yml"):
        _zip(bundle, members | {name: members[name].replace(b"P0042", b"P0043").replace(b"ulk", b"ilk")})
        assert [fault.place for fault in check(bundle).faults] == [name]


def test_an_invalid_bundle_is_refused(bench: MonitorHarness, tmp_path: Path) -> None:
    kept(bench, ["P0042"])
    bundle = bundled(bench, tmp_path / "bundle.zip")
    other = EvidenceStore(tmp_path / "other", tmp_path / "other.key", "custodes/test")
    with pytest.raises(ValueError, match="not signed by the key"):
        check(bundle, other.log.key)
    with pytest.raises(ValueError, match="is no key"):
        check(bundle, "custodes/test")
    other.close()
    bomb = tmp_path / "bomb.zip"
    _zip(bomb, {"proof.json": bytes(300 << 20)})
    assert bomb.stat().st_size < 1 << 20
    (tmp_path / "text.zip").write_text("no zip")
    _zip(tmp_path / "empty.zip", {"proof.json": b'{"format": 1}'})
    for path in (bomb, tmp_path / "text.zip", tmp_path / "empty.zip"):
        with pytest.raises(ValueError, match="is not an evidence bundle"):
            check(path)


def judged(bench: MonitorHarness, actor: str, at: int) -> Finding:
    one = found(bench, actor)
    TriageStore(bench.store.engine).change(one.id, TriageChange(state="closed", verdict="confirmed"), "ines", at)
    return one


def test_only_evidence_of_findings_closed_long_ago_expires(bench: MonitorHarness, tmp_path: Path) -> None:
    kept(bench, ["P0042", "P0007", "P0011", "P0099"])
    bench.now += 864_000
    bench.feed(look_ups(["nobody"], ["x"], at=864_000, first=2000))
    keep(bench)
    now = int(START * 1e6)
    gone, held, fresh = (
        judged(bench, "P0042", now),
        judged(bench, "P0007", now),
        judged(bench, "P0011", now + 800 * DAY),
    )
    holds = HoldStore(bench.store.engine)
    holds.set(Hold(held.id, "ines", now, "a case"))
    with pytest.raises(ValueError, match="is on hold already"):
        holds.set(Hold(held.id, "omar", now, "another"))
    retention = Retention(bench.evidence_store, bench.store.engine, timedelta(days=730))
    assert retention.step(now + 729 * DAY) == []
    assert retention.step(now + 801 * DAY) == [gone.id]
    assert retention.step(now + 802 * DAY) == []
    result = verify(bench.evidence_store.path, [bench.evidence_store.log.key])
    assert (result.faults, result.expired) == ([], bench.evidence_store.count(gone.id))
    assert bench.evidence_store.about(gone.id) == []
    for one in (held, fresh, found(bench, "P0099")):
        assert len(bench.evidence_store.about(one.id)) >= 152
    with pytest.raises(ValueError, match="no evidence"):
        export(bench.evidence_store.log, gone.id, BytesIO())
    assert b"P0042" not in b"".join(path.read_bytes() for path in bench.evidence_store.path.glob("*.evidence"))
    holds.release(held.id)
    assert retention.step(now + 803 * DAY) == [held.id]
    # An erasure without the record that announces it is a fault.
    bench.evidence_store.log.erase([key_of(fresh.id)])
    faults = verify(bench.evidence_store.path, [bench.evidence_store.log.key]).faults
    assert {fault.what for fault in faults} == {"entries are missing, and no entry gives a reason"}
    assert [fault.entries for fault in faults] == bench.evidence_store.log.runs(key_of(fresh.id))


def test_evidence_of_merged_findings_expires_too(bench: MonitorHarness) -> None:
    kept(bench, ["P0042"])
    one = found(bench)
    with bench.store.engine.begin() as connection:
        connection.execute(delete(tables.findings).where(tables.findings.c.id == one.id))
    assert bench.retention.step(int(START * 1e6) + 700 * DAY) == []
    assert bench.retention.step(int(START * 1e6) + 800 * DAY) == [one.id]


def test_an_anchored_head_reveals_a_shortened_log(bench: MonitorHarness, tmp_path: Path) -> None:
    kept(bench, ["P0042"])
    early = {path.name: path.read_bytes() for path in bench.evidence_store.path.iterdir()}
    kept(bench, ["P0007"])
    anchors = Anchors([FileAnchor(tmp_path / "heads.jsonl")])
    anchors.step(bench.evidence_store.log.head)
    anchors.step(bench.evidence_store.log.head)
    heads = heads_in(tmp_path / "heads.jsonl")
    assert heads == [(f"{tmp_path}/heads.jsonl:1", bench.evidence_store.log.head)]
    assert verify(bench.evidence_store.path, [bench.evidence_store.log.key], heads).faults == []
    for name, data in early.items():
        (bench.evidence_store.path / name).write_bytes(data)
    assert verify(bench.evidence_store.path, [bench.evidence_store.log.key]).faults == []
    (fault,) = verify(bench.evidence_store.path, [bench.evidence_store.log.key], heads).faults
    assert "entries are missing at the end" in str(fault)
    (tmp_path / "one").write_text("not a head")
    (fault,) = verify(bench.evidence_store.path, [bench.evidence_store.log.key], heads_in(tmp_path / "one")).faults
    assert "not a head of this log" in str(fault)


def test_a_failing_anchor_is_reported_and_retried(bench: MonitorHarness, tmp_path: Path) -> None:
    kept(bench, ["P0042"])
    anchors = Anchors([anchor_at(f"file://{tmp_path}/later/heads.jsonl"), anchor_at("https://127.0.0.1:1/heads")])
    anchors.step(bench.evidence_store.log.head)
    assert len(anchors.failing) == 2
    (tmp_path / "later").mkdir()
    anchors.step(bench.evidence_store.log.head, at_once=True)
    assert anchors.failing == {"https://127.0.0.1:1/heads"}
    assert heads_in(tmp_path / "later" / "heads.jsonl")[0][1] == bench.evidence_store.log.head
    with pytest.raises(ValueError, match="is not an anchor"):
        anchor_at("ftp://somewhere")
