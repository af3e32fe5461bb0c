"""Snapshot files: after any power loss, the new state or the previous one loads; never none, never a mixture."""

from __future__ import annotations

import random
from pathlib import Path

import orjson
import pytest

from custodes.encryption.keys import NO_KEYS, Keys
from custodes.sources import StreamPosition
from custodes.state import (
    CorruptSnapshotError,
    FolderInUseError,
    LocalFolder,
    MissingKeyError,
    Snapshot,
    Snapshots,
    VersionError,
)
from custodes.state.snapshots import inspect
from faulty_disk import Disk, PowerCut


def content(number: int) -> tuple[list[StreamPosition], list[bytes]]:
    """Returns a snapshot's positions and sections, different from all others."""
    rng = random.Random(number)
    sections = [rng.randbytes(rng.choice([0, 1, 100, 5000])) + b"%d" % number for _ in range(4)]
    return [StreamPosition(0, "access/0", number), StreamPosition(1, "access/1", number + 1)], sections


def write(snapshots: Snapshots, number: int) -> None:
    places, sections = content(number)
    writing = snapshots.begin()
    for section in sections:
        writing.add([section[:50], section[50:]])
    writing.finish(float(number), places)
    snapshots.prune()


def newest(snapshots: Snapshots) -> Snapshot | None:
    """Reads the newest readable snapshot, as a start does."""
    for number in snapshots.numbers():
        try:
            return snapshots.read(number)
        except CorruptSnapshotError:
            continue
    return None


def is_whole(snapshot: Snapshot) -> bool:
    places, sections = content(int(snapshot.taken_at))
    return (snapshot.places, [snapshot.frame, *snapshot.parts]) == (places, sections)


def calls_to_write_one() -> int:
    disk = Disk(random.Random(0))
    snapshots = Snapshots(disk, keep=2)
    for number in (1, 2):
        write(snapshots, number)
    before = disk.calls
    write(snapshots, 3)
    return disk.calls - before


@pytest.mark.parametrize("cut_after", range(calls_to_write_one() + 1))
def test_a_power_loss_at_any_call_leaves_the_new_or_previous_snapshot(cut_after: int) -> None:
    for seed in range(60):
        disk = Disk(random.Random(seed))
        snapshots = Snapshots(disk, keep=2)
        for number in (1, 2):
            write(snapshots, number)
        disk.cut_after = cut_after
        finished = True
        try:
            write(snapshots, 3)
        except PowerCut:
            finished = False
        restarted = Snapshots(disk.after_the_cut(), keep=2)
        found = newest(restarted)
        assert found is not None, seed
        assert is_whole(found), seed
        assert found.taken_at == 3 or not finished, "what was finished is durable"
        assert found.taken_at in (2, 3), seed
        # Snapshots can still be written: leftover files do not interfere.
        write(restarted, 4)
        after = newest(restarted)
        assert after is not None
        assert after.taken_at == 4


def test_files_found_at_start_are_made_durable() -> None:
    """Regression, found by simulation: a process killed before it had synced a snapshot's name left one that the next
    process restored and committed offsets by; a power loss then removed it."""
    for seed in range(60):
        disk = Disk(random.Random(seed))
        snapshots = Snapshots(disk, keep=2)
        write(snapshots, 1)
        # All calls but the last two, which sync the name and remove an old snapshot.
        disk.cut_after = calls_to_write_one() - 2
        with pytest.raises(PowerCut):
            write(snapshots, 2)
        disk.cut_after = None
        found = newest(Snapshots(disk, keep=2))
        still = newest(Snapshots(disk.after_the_cut(), keep=2))
        assert found is not None
        assert still is not None
        assert still.taken_at == found.taken_at


@pytest.fixture
def folder(tmp_path: Path) -> LocalFolder:
    return LocalFolder(tmp_path / "state")


def test_any_damage_is_detected(folder: LocalFolder, tmp_path: Path) -> None:
    snapshots = Snapshots(folder, keep=3)
    write(snapshots, 1)
    path = tmp_path / "state" / "000000000001.snapshot"
    whole = path.read_bytes()
    rng = random.Random(1)
    for _ in range(300):
        at = rng.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        # The first bytes identify the file for people; the program does not read them.
        if at >= len(b"CUSTODES"):
            with pytest.raises(CorruptSnapshotError):
                snapshots.read(1)
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptSnapshotError):
            snapshots.read(1)


def test_another_version_is_distinguished_from_damage(folder: LocalFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshots = Snapshots(folder, keep=3)
    for number, (name, message) in enumerate([("VERSION", "format 99"), ("SNAPSHOT_VERSION", "engine state 99")], 1):
        monkeypatch.setattr(f"custodes.state.snapshots.{name}", 99)
        write(snapshots, number)
        monkeypatch.undo()
        with pytest.raises(VersionError, match=message):
            snapshots.read(number)


def test_the_newest_snapshots_are_kept(folder: LocalFolder, tmp_path: Path) -> None:
    snapshots = Snapshots(folder, keep=3)
    for number in range(1, 6):
        write(snapshots, number)
    assert snapshots.numbers() == [5, 4, 3]
    (tmp_path / "state" / "000000000006.unfinished").write_bytes(b"half")
    again = Snapshots(folder, keep=3)
    assert not [name for name in folder.names() if name.endswith(".unfinished")]
    write(again, 6)
    assert again.numbers() == [6, 5, 4]


def test_snapshots_have_private_permissions(folder: LocalFolder, tmp_path: Path) -> None:
    write(Snapshots(folder, keep=3), 1)
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0
    assert (tmp_path / "state" / "000000000001.snapshot").stat().st_mode & 0o077 == 0


def test_a_folder_belongs_to_one_process(folder: LocalFolder, tmp_path: Path) -> None:
    with pytest.raises(FolderInUseError, match="another running process"):
        LocalFolder(tmp_path / "state")
    owner = folder.owner()
    folder.close()
    assert LocalFolder(tmp_path / "state").owner() == owner


def test_the_index_lists_the_sections(folder: LocalFolder, tmp_path: Path) -> None:
    """The documented format: the last 44 bytes, the index before them, and its content."""
    write(Snapshots(folder, keep=3), 1)
    data = (tmp_path / "state" / "000000000001.snapshot").read_bytes()
    length = int.from_bytes(data[-44:-40], "little")
    index = orjson.loads(data[-44 - length : -44])
    assert index["version"] == 1
    _, sections = content(1)
    assert [data[s["offset"] : s["offset"] + s["length"]] for s in index["sections"]] == sections


def test_encrypted_data_requires_the_key(tmp_path: Path) -> None:
    first, both = Keys([("a", b"a" * 32)]), Keys([("b", b"b" * 32), ("a", b"a" * 32)])
    folder = LocalFolder(tmp_path / "state")
    for number, keys in ((1, NO_KEYS), (2, first), (3, both)):
        write(Snapshots(folder, keep=3, keys=keys), number)
    for number in (1, 2, 3):
        assert is_whole(Snapshots(folder, keep=3, keys=both).read(number))
        path = tmp_path / "state" / f"{number:012}.snapshot"
        assert (max(content(number)[1], key=len) in path.read_bytes()) == (number == 1), (
            "what it has does not stand there"
        )
        assert inspect(path).damage is None, "that it is whole can be seen without a key"
    with pytest.raises(MissingKeyError, match="under the key 'b'"):
        Snapshots(folder, keep=3, keys=first).read(3)
    folder.close()
