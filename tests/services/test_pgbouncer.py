"""The database behind PgBouncer in transaction mode, where a session serves one transaction at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from sqlalchemy import text

from accesses import write_accesses
from any_names import assert_every_finding_is_stored, changes_of, rules_in
from commands import custodes
from custodes.database import open_database
from custodes.findings.store import FindingStore
from sample_events import all_findings
from servers import CUSTODES, PgBouncer, PostgreSQL, Server, free_port, get_json

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def pooler(postgresql: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PgBouncer]:
    pooler = PgBouncer(tmp_path_factory.mktemp("pgbouncer"), postgresql)
    yield pooler
    pooler.stop()


def test_a_monitor_runs_and_restarts(pooler: PgBouncer, tmp_path: Path) -> None:
    write_accesses(tmp_path / "events.jsonl", "P0042", 200)
    base = f"http://127.0.0.1:{free_port()}"
    config = {
        "source": {"file": {"paths": ["events.jsonl"]}},
        "findings": {"database": pooler.database("monitor")},
        "http": {"listen": base.removeprefix("http://")},
    }
    (tmp_path / "custodes.yaml").write_text(yaml.safe_dump(config))
    checked = custodes("check", "-c", "custodes.yaml", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr.decode()
    for _ in range(2):
        server = Server(tmp_path / "monitor", [CUSTODES, "run", "-c", tmp_path / "custodes.yaml"])
        server.wait_for("the file to end", lambda: get_json(f"{base}/api/v1/status")["finished"], 60)
        assert "Bulk lookups" in [finding["rule"] for finding in all_findings(base)]
        assert server.stop() == 0
        log = server.log.read_text()
        assert "database_failed" not in log
        assert "Traceback" not in log


def test_each_transaction_has_its_time_limits_and_leaves_none(pooler: PgBouncer) -> None:
    url = pooler.database("limits")
    engine = open_database(url)
    limits = ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout")
    for _ in range(3):
        with engine.begin() as connection:
            found = [connection.execute(text(f"SHOW {name}")).scalar_one() for name in limits]
            assert found == ["5s", "10s", "30s"]
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            found = [connection.execute(text(f"SHOW {name}")).scalar_one() for name in limits]
            assert found == ["0", "0", "0"], "the session belongs to others next"
    engine.dispose()


def test_many_writers_share_few_sessions(pooler: PgBouncer, tmp_path: Path) -> None:
    """A statement prepared in one session would be missing in the next."""
    url, rules = pooler.database("shared"), rules_in(tmp_path)
    changes = changes_of(rules, [(f"P{n}", f"S{n}") for n in range(200)])
    parts = [changes[n::8] for n in range(8)]
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            store = FindingStore(url)
            claim = store.claim(f"task {number}", f"worker {number}")
            for change in parts[number]:
                store.apply([change], rules, claim)
            store.close()
        except BaseException as error:
            failures.append(error)

    FindingStore(url).close()
    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    store = FindingStore(url)
    assert {one.id for one in store.page(1000).findings} == {change.id for change in changes}
    store.close()


def test_refused_names_need_no_session_either(pooler: PgBouncer, tmp_path: Path) -> None:
    events = [("x" * 3_000, "S1"), ("\0", "\ud800"), ("王" * 50_000, "S3")]
    assert_every_finding_is_stored(pooler.database("names"), rules_in(tmp_path), events)
