"""`custodes evidence` on the data of a monitor: verify, export, hold."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from bundle_oracle import proven
from commands import custodes


def run(place: Path, *arguments: str) -> tuple[int, str, str]:
    done = custodes("evidence", *arguments, cwd=place)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def finding(place: Path) -> str:
    listed = custodes("findings", "list", "--json", cwd=place).stdout.decode()
    found = [json.loads(line) for line in listed.splitlines()]
    return str(next(one["id"] for one in found if one["rule"] == "Bulk lookups"))


def test_a_finding_is_proven_on_another_machine(place: Path, tmp_path: Path) -> None:
    code, said, fault = run(place, "verify", "--head", "heads.jsonl")
    assert (code, said.startswith("ok: ")) == (0, True), said + fault
    key = run(place, "key")[1].strip()
    assert key.startswith("test/custodes+")
    code, said, fault = run(place, "export", finding(place)[:8], "-m", "a complaint", "-o", "bundle.zip")
    assert (code, said) == (0, "bundle.zip: 200 events\n"), fault
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (place / "bundle.zip").rename(elsewhere / "bundle.zip")
    code, said, fault = run(elsewhere, "verify", "bundle.zip", "--key", key)
    assert (code, f"200 events behind finding {finding(place)}" in said) == (0, True), said + fault
    assert len([entry for entry in proven(elsewhere / "bundle.zip", key) if entry["kind"] == "event"]) == 200
    assert json.loads(run(elsewhere, "verify", "bundle.zip", "--json")[1])["faults"] == []
    code, _, fault = run(elsewhere, "verify", "bundle.zip", "--key", key.replace("test", "best"))
    assert (code, "is no key" in fault) == (2, True)


def test_verification_names_the_change(place: Path) -> None:
    (segment,) = (place / "custodes-evidence").glob("*.evidence")
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-40])
    code, said, _ = run(place, "verify")
    assert (code, "entries are missing at the end" in said) == (1, True), said
    segment.write_bytes(whole)
    # If the head was removed as well, the anchored head reveals it.
    for path in (segment, place / "custodes-evidence" / "head"):
        path.unlink()
    code, said, _ = run(place, "verify", "--head", "heads.jsonl", "--json")
    assert code == 1
    assert any("missing at the end" in fault["what"] for fault in json.loads(said)["faults"])


def test_evidence_is_held_and_released(place: Path) -> None:
    short = finding(place)[:8]
    assert run(place, "hold", short, "-m", "case 17")[:2] == (0, f"{short} is held\n")
    code, _, fault = run(place, "hold", short, "-m", "case 18")
    assert (code, "is on hold already" in fault) == (2, True)
    (held,) = json.loads(run(place, "holds", "--json")[1])
    assert (held["finding_id"][:8], held["reason"]) == (short, "case 17")
    assert run(place, "release", short, "-m", "dismissed")[0] == 0
    code, _, fault = run(place, "release", short, "-m", "dismissed")
    assert (code, "is not on hold" in fault) == (2, True)
    assert run(place, "holds")[1] == ""


def test_evidence_and_its_key_have_private_permissions(place: Path) -> None:
    folder = place / "custodes-evidence"
    private = [*folder.glob("*.evidence"), folder, place / "custodes-state" / "evidence.key"]
    assert [stat.S_IMODE(path.stat().st_mode) & 0o077 for path in private] == [0, 0, 0]
