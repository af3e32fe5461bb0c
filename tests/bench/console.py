"""Console latency with ten million events of history and two thousand findings: server time per page, and the effect of
two hundred live viewers on the stream."""

from __future__ import annotations

import argparse
import json
import random
import re
import selectors
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import httpx
from events import write_events
from processes import table
from running import monitor, rate

from servers import get_json

INSIDERS = 2000
RULES = """
title: Looks
name: looks
logsource: {product: custodes}
detection: {x: {action: read}, condition: x}
---
title: Many people
level: high
correlation: {type: value_count, rules: [looks], group-by: [actor], timespan: 1h, condition: {field: subject, gte: 140}}
"""
CLIENTS = 200


def write_insiders(path: Path, after: Path) -> None:
    """Appends look-ups by many actors, 150 subjects each within an hour, after the events in a file."""
    with after.open("rb") as file:
        file.seek(-400, 2)
        last = json.loads(file.read().splitlines()[-1])["time"]
    day = last[:10]
    with path.open("w") as file:
        for n in range(150):
            for actor in range(INSIDERS):
                event = {
                    "time": f"{day}T23:{30 + n * 24 // 150:02}:{n * 24 % 60:02}.{actor % 1000:03}Z",
                    "actor": f"Q{actor:05}", "subject": f"S{(actor * 31 + n) % 200_000:06}", "action": "read",
                    "resource": "person.identity", "peer_group": "traffic", "app": "desk",
                }  # fmt: skip
                file.write(json.dumps(event) + "\n")


def token(page: str) -> str:
    found = re.search(r'name="token" value="([0-9a-f]+)"', page)
    assert found is not None, page
    return str(found[1])


def pages(base: str, times: int) -> dict[str, list[float]]:
    """Returns the milliseconds of each answer, by page. Each request is for a new actor or subject."""
    rng = random.Random(3)
    client = httpx.Client(base_url=base, timeout=60)
    findings: list[str] = []
    after: str | None = None
    while len(findings) < INSIDERS:
        found = client.get("/api/v1/findings", params={"limit": 500} | ({"after": after} if after else {})).json()
        findings += [one["id"] for one in found["findings"]]
        after = found["next"]
        if after is None:
            break
    rule = client.get("/api/v1/rules").json()["rules"][0]["id"]
    form = token(client.get(f"/findings/{findings[0]}").text)

    def look(kind: str, address: str) -> httpx.Response:
        hidden = urlsplit(address).path.rpartition("/")[2]
        data = {"token": form, "kind": kind, "hidden": hidden, "purpose": "a measurement"}
        assert client.post("/look", data=data).status_code == 303
        return client.get(address)

    def address_of(kind: str, name: str) -> str:
        shown = client.post("/search", data={"token": form, "wanted": name}).text
        return str(next(iter(re.findall(rf'href="(/{kind}s/[^"]+)"', shown))))

    subjects = [address_of("subject", f"S{n:06}") for n in rng.sample(range(60_000), times)]
    actors = [address_of("actor", f"P{n:05}") for n in rng.sample(range(20_000), times)]
    asked: dict[str, Callable[[int], httpx.Response]] = {
        "/": lambda n: client.get("/"),
        "/findings": lambda n: client.get("/findings", params={"state": ""}),
        "/findings/ID": lambda n: client.get(f"/findings/{rng.choice(findings)}"),
        "/actors/NAME": lambda n: look("actor", actors[n]),
        "/actors/NAME/around": lambda n: client.get(f"{actors[n]}/around"),
        "/subjects/NAME": lambda n: look("subject", subjects[n]),
        "/search": lambda n: client.post("/search", data={"token": form, "wanted": f"P{rng.randrange(20_000):05}"}),
        "/rules": lambda n: client.get("/rules"),
        "/rules/ID": lambda n: client.get(f"/rules/{rule}"),
        "/audit": lambda n: client.get("/audit"),
        "/api/v1/findings": lambda n: client.get("/api/v1/findings", params={"limit": 100}),
        "/api/v1/risks": lambda n: client.get("/api/v1/risks"),
    }
    took: dict[str, list[float]] = {}
    for name, ask in asked.items():
        for n in range(times):
            begun = time.perf_counter()
            answer = ask(n)
            took.setdefault(name, []).append((time.perf_counter() - begun) * 1000)
            assert answer.status_code == 200, f"{name}: {answer.status_code}"
    return took


def watch(base: str, done: Callable[[], bool]) -> int:
    """Keeps two hundred viewers connected until the run is done; returns the bytes they received.

    Viewers do little work themselves, so that the server's work is measured.
    """
    url = urlsplit(base)
    address = (str(url.hostname), url.port or 0)
    heard = 0
    with selectors.DefaultSelector() as ready, ExitStack() as closing:
        for _ in range(CLIENTS):
            client = closing.enter_context(socket.create_connection(address))
            client.sendall(f"GET /live HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode())
            client.setblocking(False)
            ready.register(client, selectors.EVENT_READ)
        while not done():
            until = time.monotonic() + 0.1
            while (left := until - time.monotonic()) > 0:
                for key, _ in ready.select(left):
                    heard += len(cast("socket.socket", key.fileobj).recv(1 << 20))
    return heard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--times", type=int, default=100, help="how often each page is asked for")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_events(home / "events.jsonl", chosen.events)
        write_insiders(home / "insiders.jsonl", home / "events.jsonl")
        (home / "rules.yml").write_text(RULES)
        files, rules = [home / "events.jsonl", home / "insiders.jsonl"], [str(home / "rules.yml")]
        with monitor(home / "pages", files, rules=rules) as (server, base):
            server.wait_for("it to read all", lambda: get_json(f"{base}/api/v1/status")["finished"], 600)
            took = pages(base, chosen.times)
            findings = sum(1 for _ in (home / "pages").glob("custodes-history/*.parquet"))
        rows = []
        for name, each in took.items():
            cuts = statistics.quantiles(each, n=20)
            rows.append([name, f"{statistics.median(each):.0f}", f"{cuts[18]:.0f}", f"{max(each):.0f}"])
        print(table(["page", "median, ms", "p95, ms", "most, ms"], rows))
        print(f"{findings} files of history")
        # Long enough that the cost of two hundred simultaneous connects is negligible.
        ratios = []
        for number in range(chosen.rounds):
            stream, events = home / "events.jsonl", chosen.events
            alone, _ = rate(home / f"alone{number}", stream, events)
            watched, heard = rate(home / f"watched{number}", stream, events, beside=watch)
            ratios.append(watched / alone)
            print(f"{alone:,.0f} events/s alone, {watched:,.0f} with {CLIENTS} viewers ({heard / 1e6:.0f} MB received)")
        print(f"ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
