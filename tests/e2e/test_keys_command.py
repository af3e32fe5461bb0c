"""Encryption for an operator: enable it, rotate keys, remove a key."""

from __future__ import annotations

import json
from pathlib import Path

from accesses import write_accesses
from commands import custodes
from servers import CUSTODES, Server, free_port, get_json


def run(place: Path, *arguments: str) -> tuple[int, str, str]:
    done = custodes(*arguments, "-c", "custodes.yaml", cwd=place)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def goes_through(place: Path, turn: int) -> list[dict[str, object]]:
    """Runs the monitor to the end of its files; returns the findings it reports."""
    address = f"127.0.0.1:{free_port()}"
    server = Server(place / f"turn{turn}", [CUSTODES, "run", "-c", place / "custodes.yaml", "--listen", address])
    server.wait_for("the files to end", lambda: get_json(f"http://{address}/api/v1/status")["finished"])
    found = get_json(f"http://{address}/api/v1/findings")["findings"]
    assert server.stop() == 0
    return [one for one in found if one["rule"] == "Bulk lookups"]


def names_on_the_disk(place: Path) -> set[str]:
    """Returns the files that contain a name, except input files."""
    files = [path for path in place.rglob("*") if path.is_file() and path.name != "events.jsonl"]
    return {path.name for path in files if b"P0042" in path.read_bytes()}


def kept(place: Path) -> list[str]:
    """Returns all files except those of the database."""
    files = (path for path in place.rglob("*") if path.is_file())
    return sorted(str(path) for path in files if not path.name.startswith("custodes.db"))


def test_keys_are_added_rotated_and_removed(tmp_path: Path) -> None:
    write_accesses(tmp_path / "events.jsonl", "P0042", 200)
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"actor": "P0042", "time": "yesterday"}\n')
    config = tmp_path / "custodes.yaml"
    config.write_text("source: {file: {paths: [events.jsonl]}}\n")
    before = goes_through(tmp_path, 0)
    assert [one["group"] for one in before] == [{"actor": "P0042"}]
    assert {path.rpartition(".")[2] for path in names_on_the_disk(tmp_path)} >= {"db", "parquet"}

    # After encryption is enabled, a command encrypts existing data at once.
    config.write_text("source: {file: {paths: [events.jsonl]}}\nencryption: {keys: names.keys}\n")
    code, _, fault = run(tmp_path, "findings", "list")
    assert (code, "custodes keys add" in fault) == (2, True)
    assert run(tmp_path, "keys", "add", "y2026")[0] == 0
    assert run(tmp_path, "keys", "reencrypt")[0] == 0
    assert goes_through(tmp_path, 1) == before
    (finding,) = (json.loads(line) for line in run(tmp_path, "findings", "list", "--json")[1].splitlines()[:1])
    assert finding["group"] == {"actor": "P0042"}

    # With the next key, existing data needs both.
    assert run(tmp_path, "keys", "add", "y2027")[0] == 0
    code, _, fault = run(tmp_path, "keys", "remove", "y2026")
    assert (code, "still needed" in fault) == (2, True), fault
    assert goes_through(tmp_path, 2) == before
    assert run(tmp_path, "keys", "reencrypt")[0] == 0
    told = {one["name"]: one for one in json.loads(run(tmp_path, "keys", "list", "--json")[1])}
    assert (told["y2027"]["writes"], told["y2026"]["writes"]) == (True, False)
    assert (told["y2026"]["database"], told["y2026"]["history"]) == (0, 0)
    assert told["y2027"]["history"] >= 1
    assert run(tmp_path, "evidence", "verify")[0] == 0
    code, _, fault = run(tmp_path, "keys", "remove", "y2027")
    assert (code, "encrypts new data" in fault) == (2, True)

    # Dead letters are read with the keys.
    code, letters, _ = run(tmp_path, "dead-letters")
    assert (code, ["P0042" in json.loads(line)["value"] for line in letters.splitlines()][-1:]) == (0, [True])

    # Plain files of the first monitor expire; new files contain no name.
    for name in ("custodes-dead-letters.jsonl", *(f"{n:012}.snapshot" for n in (1, 2))):
        for path in tmp_path.rglob(name):
            path.unlink()
    evidence = {path.name for path in (tmp_path / "custodes-evidence").glob("*")}
    assert names_on_the_disk(tmp_path) <= evidence


def test_without_its_key_nothing_starts_and_no_file_is_moved(tmp_path: Path) -> None:
    write_accesses(tmp_path / "events.jsonl", "P0042", 200)
    config = tmp_path / "custodes.yaml"
    config.write_text("source: {file: {paths: [events.jsonl]}}\nencryption: {keys: names.keys}\n")
    assert run(tmp_path, "keys", "add", "one")[0] == 0
    assert goes_through(tmp_path, 0)
    assert names_on_the_disk(tmp_path) == set()
    before = kept(tmp_path)
    (tmp_path / "names.keys").unlink()
    assert run(tmp_path, "keys", "add", "two")[0] == 0
    code, _, fault = run(tmp_path, "run", "--listen", f"127.0.0.1:{free_port()}")
    assert (code, "under the key 'one'" in fault) == (2, True), fault
    assert kept(tmp_path) == before
    code, verified, _ = run(tmp_path, "evidence", "verify")
    assert (code, "under the key 'one'" in verified) == (1, True)
