"""The monitor with its console: bounded metrics, truthful probes, a safe live page."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from custodes._core import FindingChange
from custodes.sources import FileFault, LineChunk, SourceMessage, StreamIdle, StreamJoined, StreamLeft
from harness import START, MonitorHarness, look_ups


def test_series_are_the_same_whatever_the_data(bench: MonitorHarness) -> None:
    bench.feed(StreamJoined(0))
    bench.feed(look_ups([f"a{n}" for n in range(10)], ["s"]))
    few = bench.series()
    bench.feed(look_ups([f"a{n}" for n in range(100_000)], ["s"]))
    bench.feed(LineChunk(0, b'{"broken\n\xff\n[]\n', 1))
    assert bench.value('custodes_engine_groups{rule="Bulk lookups"}') == 100_000
    assert bench.series() == few
    assert not any("a77" in series for series in few)


def test_metrics_follow_the_events(bench: MonitorHarness) -> None:
    bench.feed(StreamJoined(0), look_ups(["P1"], [f"s{n}" for n in range(200)]))
    assert bench.value('custodes_open_findings{level="high",rule="Bulk lookups"}') == 1
    assert bench.value('custodes_findings_total{level="high",rule="Bulk lookups"}') == 1
    assert bench.value('custodes_window_peak_ratio{rule="Bulk lookups"}') == pytest.approx(200 / 150)
    assert bench.value('custodes_events_total{source="script"}') == 200
    assert bench.value("custodes_source_lag_records") == 17
    bench.now += 25
    bench.feed()
    assert bench.value("custodes_watermark_lag_seconds") == pytest.approx(35)
    bench.now += 8 * 3600
    bench.feed(look_ups(["P2"], ["s"], at=8 * 3600))
    assert bench.value('custodes_open_findings{level="high",rule="Bulk lookups"}') == 0
    assert bench.value('custodes_findings_total{level="high",rule="Bulk lookups"}') == 1
    assert bench.source.commits == 3


def test_grown_findings_are_stored_before_their_events_are_committed(bench: MonitorHarness) -> None:
    bench.feed(StreamJoined(0), look_ups(["P1"], [f"s{n}" for n in range(200)]))
    seen: list[float] = []
    bench.source.on_commit = lambda: seen.append(bench.monitor.store.page().findings[0].peak)
    bench.source.arrivals.append([look_ups(["P1"], [f"t{n}" for n in range(50)])])
    bench.monitor.step(0)
    assert seen == [], "not a second has passed"
    bench.feed()
    assert seen == [250]


def test_a_rounds_changes_are_stored_in_one_transaction(bench: MonitorHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[int] = []
    apply = bench.store.apply

    def counted(changes: Sequence[FindingChange], *more: Any) -> Any:
        stored.append(len(changes))
        return apply(changes, *more)

    monkeypatch.setattr(bench.store, "apply", counted)
    subjects = [f"s{n}" for n in range(200)]
    bench.feed(StreamJoined(0), *(look_ups([f"P{n}"], subjects) for n in range(5)))
    assert stored == [5]
    # Without an end of the round, its findings would not be reported.
    crowd = look_ups([f"c{n}" for n in range(60_000)], ["s"])
    bench.feed(look_ups(["P5"], subjects), crowd, look_ups(["P6"], subjects), look_ups(["P7"], subjects))
    assert stored == [5, 2, 2], "the findings of P5 and of the popular subject, then the others"
    assert len(bench.store.page().findings) == 9
    bench.feed(look_ups(["P8"], subjects), StreamLeft(0), look_ups(["P9"], subjects))
    assert stored == [5, 2, 2, 1, 1], "what came of a stream is stored before it leaves"


def test_rejected_records_are_kept_before_they_are_committed(bench: MonitorHarness, tmp_path: Path) -> None:
    bench.feed(LineChunk(3, b'{"actor":"x"}\n{"time":1,"actor":"x"}\n', 41))
    letters = [json.loads(line) for line in (tmp_path / "dead.jsonl").read_text().splitlines()]
    assert [(one["stream"], one["position"], one["reason"]) for one in letters] == [
        (3, 41, "missing_time"),
        (3, 42, "time_too_old"),
    ]
    assert bench.value('custodes_events_rejected_total{reason="missing_time"}') == 1


def test_a_time_far_ahead_of_the_clock_is_rejected(bench: MonitorHarness) -> None:
    bench.feed(look_ups(["P1"], ["s"]), look_ups(["P1"], ["s"], at=599), look_ups(["P1"], ["s"], at=601))
    assert bench.monitor.status.events == 2
    assert bench.value('custodes_events_rejected_total{reason="time_in_future"}') == 1


def test_a_silent_partition_holds_the_watermark_until_idle_or_gone(bench: MonitorHarness) -> None:
    bench.feed(StreamJoined(0), StreamJoined(1), StreamJoined(2), look_ups(["P1"], ["s"]))
    assert bench.monitor.status.watermark is None
    bench.feed(StreamIdle(1))
    assert bench.monitor.status.watermark is None
    bench.feed(StreamLeft(2))
    assert bench.monitor.status.watermark == (START - 10) * 1_000_000
    assert bench.monitor.status.streams == 2


def test_probes_tell_the_truth(bench: MonitorHarness) -> None:
    async def codes() -> tuple[int, int]:
        return (await bench.get("/-/healthy")).status_code, (await bench.get("/-/ready")).status_code

    assert asyncio.run(codes()) == (200, 503)
    bench.feed(StreamJoined(0))
    assert asyncio.run(codes()) == (200, 200)
    bench.monitor.last_poll -= 60
    assert asyncio.run(codes()) == (503, 200)
    bench.monitor.failure = RuntimeError("disk")
    assert asyncio.run(codes()) == (503, 200)


def test_a_failing_loop_is_reported(bench: MonitorHarness) -> None:
    bench.store.close()
    bench.source.arrivals.append([StreamJoined(0)])

    def broken(timeout: float) -> list[SourceMessage]:
        raise OSError("no space left")

    bench.source.poll = broken  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no space"):
        bench.monitor.run(threading.Event())
    assert isinstance(bench.monitor.failure, OSError)


def test_the_page_escapes_an_attackers_name(bench: MonitorHarness) -> None:
    name = '<script>alert("x")</script>'
    bench.feed(look_ups([name], [f"s{n}" for n in range(200)]))
    page = asyncio.run(bench.get("/"))
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_the_api_and_its_schema(bench: MonitorHarness) -> None:
    bench.feed(look_ups(["P1", "P2"], [f"s{n}" for n in range(200)]))

    async def ask() -> None:
        first = (await bench.get("/api/v1/findings?limit=1")).json()
        second = (await bench.get(f"/api/v1/findings?limit=1&after={first['next']}")).json()
        assert second["next"] is None
        both = [first["findings"][0], second["findings"][0]]
        assert {finding["group"]["actor"] for finding in both} == {"P1", "P2"}
        assert list(both[0]) == [
            "id", "rule_id", "rule", "level", "group", "opened_at", "closed_at", "peak", "count", "threshold",
            "triage",
        ]  # fmt: skip
        one = await bench.get(f"/api/v1/findings/{both[0]['id']}")
        assert one.json() == both[0]
        assert (await bench.get("/api/v1/findings/none")).status_code == 404
        assert (await bench.get("/api/v1/findings?after=junk")).status_code == 400
        assert (await bench.get("/api/v1/findings?limit=0")).status_code == 422
        risks = (await bench.get("/api/v1/risks?limit=1")).json()
        assert (len(risks["risks"]), risks["as_of"]) == (1, "2026-01-05T08:00:00.000Z")
        (risk,) = risks["risks"]
        (found,) = [finding for finding in both if finding["group"]["actor"] == risk["actor"]]
        assert (risk["findings"], risk["rules"], risk["score"] > 0) == ([found["id"]], [found["rule"]], True)
        status = (await bench.get("/api/v1/status")).json()
        assert (status["events"], status["open_findings"], status["newest_event"]) == (
            400,
            2,
            "2026-01-05T08:00:00.000Z",
        )
        schema = (await bench.get("/api/v1/openapi.json")).json()
        assert set(schema["paths"]) == {
            "/api/v1/exports/findings",
            "/api/v1/findings",
            "/api/v1/findings/{finding_id}",
            "/api/v1/findings/{finding_id}/history",
            "/api/v1/findings/{finding_id}/triage",
            "/api/v1/gaps",
            "/api/v1/risks",
            "/api/v1/shortfalls",
            "/api/v1/silences",
            "/api/v1/silences/{number}",
            "/api/v1/audit",
            "/api/v1/cases",
            "/api/v1/findings/{finding_id}/events",
            "/api/v1/findings/{finding_id}/evidence",
            "/api/v1/people/around",
            "/api/v1/people/disclosures",
            "/api/v1/people/look",
            "/api/v1/people/search",
            "/api/v1/rules",
            "/api/v1/views",
            "/api/v1/views/{number}",
            "/api/v1/status",
        }

    asyncio.run(ask())


def test_the_live_stream_sends_the_page_again_when_something_happens(bench: MonitorHarness) -> None:
    async def watch() -> list[str]:
        sent: list[str] = []
        scope: dict[str, Any] = {
            "type": "http", "method": "GET", "path": "/live", "raw_path": b"/live", "query_string": b"",
            "headers": [(b"host", b"custodes")], "http_version": "1.1", "scheme": "http", "server": ("custodes", 80),
            "root_path": "",
        }  # fmt: skip
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message.get("body", b"").decode())

        task = asyncio.create_task(bench.app(scope, receive, send))
        async with asyncio.timeout(10):
            while not any("All counts are below" in text for text in sent):
                await asyncio.sleep(0.01)
            await asyncio.to_thread(bench.feed, look_ups(["P77"], [f"s{n}" for n in range(200)]))
            while not any("actor P77" in text for text in sent):
                await asyncio.sleep(0.01)
            bench.monitor.feed.close()
            gone.set()
            await task
        return sent

    assert any("event: overview" in text for text in asyncio.run(watch()))


def test_a_file_that_is_not_read_to_its_end_is_a_dead_letter_with_a_metric(bench: MonitorHarness) -> None:
    assert bench.value('custodes_events_rejected_total{reason="truncated"}') == 0
    bench.feed(FileFault(0, 7, "truncated", "the file ends in the middle of its compressed data", b'{"time":'))
    assert bench.value('custodes_events_rejected_total{reason="truncated"}') == 1
    assert bench.monitor.status.rejected == 1
