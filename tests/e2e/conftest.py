"""Monitors that have run, for commands that work on their data."""

from __future__ import annotations

from pathlib import Path

import pytest

from accesses import write_accesses
from servers import CUSTODES, Server, free_port, get_json


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder where a monitor found one actor with many look-ups and ended; heads of its evidence are in a file."""
    write_accesses(tmp_path / "events.jsonl", "P0042", 200)
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "custodes.yaml").write_text(
        f"source: {{file: {{paths: [events.jsonl]}}}}\nhttp: {{listen: '{address}'}}\n"
        f"evidence: {{name: test/custodes, anchors: ['file://{tmp_path}/heads.jsonl']}}\n"
    )
    server = Server(tmp_path / "monitor", [CUSTODES, "run", "-c", tmp_path / "custodes.yaml"])
    server.wait_for("the file to end", lambda: get_json(f"http://{address}/api/v1/status")["finished"])
    assert server.stop() == 0
    return tmp_path
