"""Dead letters are read back, and those that are readable now are sent again, each once."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from commands import custodes
from custodes._core import Engine
from custodes.config.mapping import load_mapping
from custodes.encryption.keys import NO_KEYS, Keys
from custodes.rules import build_plan
from custodes.sources.dead_letters import FileDeadLetters, KeptLetter, Letter, read_letter
from custodes.sources.letter_replay import LetterReplay, ReadableLetters, RecordRefusedError, ReplayedLetters
from custodes.sources.letter_store import FileLetterStore, LetterBatch, ReplayInProgressError, UnreadableLetter


@dataclass(frozen=True)
class Rejected:
    """A record that was not counted."""

    position: int
    value: bytes
    reason: str = "missing_actor"
    detail: str = "no value at 'actor'"


def event(number: int, **more: Any) -> bytes:
    return json.dumps({"time": time.time() - 60, "actor": f"P{number}", "subject": "S1", **more}).encode()


def write_letters(path: Path, rejected: Sequence[Rejected], partition: int = 0, keys: Keys = NO_KEYS) -> None:
    with closing(FileDeadLetters(path, keys)) as letters:
        letters.write([Letter(reject, {"topic": "access", "partition": partition}) for reject in rejected])


def engine() -> Engine:
    return Engine(build_plan([], load_mapping("custodes")))


class KilledError(Exception):
    """The process ended here."""


@dataclass
class MemoryTopics:
    """The topics of a source, in memory; ``on_step`` is called before and after each change."""

    records: dict[tuple[str, int], list[KeptLetter]] = field(default_factory=lambda: {("access", 0): []})
    most_bytes: int = 1_000_000
    committed_to: int = 1_000_000
    on_step: Callable[[], None] = lambda: None

    def has(self, origin: tuple[str, int]) -> bool:
        return origin in self.records

    def committed(self, origin: tuple[str, int]) -> int:
        return self.committed_to

    def ends(self, origins: Collection[tuple[str, int]]) -> dict[str, int]:
        return {f"{topic}/{partition}": len(self.records[topic, partition]) for topic, partition in origins}

    def send(self, letters: Sequence[KeptLetter]) -> None:
        for letter in letters:
            assert letter.origin is not None
            self.on_step()
            if len(letter.value) > self.most_bytes:
                raise RecordRefusedError("too large")
            self.records[letter.origin].append(letter)
        self.on_step()

    def arrived(self, batch: LetterBatch) -> list[str]:
        found = []
        for name, end in batch.ends.items():
            topic, _, partition = name.rpartition("/")
            found += [letter.identity for letter in self.records[topic, int(partition)][end:]]
        return found

    def sent(self) -> list[int]:
        """Positions of all letters that were sent."""
        return [letter.position for _, letters in sorted(self.records.items()) for letter in letters]


class StepwiseStore(FileLetterStore):
    """A store that calls ``on_step`` before and after each note."""

    on_step: Callable[[], None] = staticmethod(lambda: None)

    def begin(self, batch: LetterBatch) -> None:
        self.on_step()
        super().begin(batch)
        self.on_step()

    def note_sent(self, identities: Sequence[str]) -> None:
        self.on_step()
        super().note_sent(identities)
        self.on_step()

    def end(self, run: str) -> None:
        self.on_step()
        super().end(run)
        self.on_step()


def replay(
    path: Path,
    topics: MemoryTopics,
    *,
    reasons: Collection[str] = (),
    is_dry: bool = False,
    keys: Keys = NO_KEYS,
    on_step: Callable[[], None] | None = None,
) -> ReplayedLetters:
    with closing(StepwiseStore(path, keys, is_dry=is_dry, settled_after=0)) as store:
        if on_step is not None:
            store.on_step = topics.on_step = on_step
        run = LetterReplay(store, topics, ReadableLetters(engine(), reasons))
        try:
            run.run(is_dry=is_dry)
        finally:
            topics.on_step = lambda: None
        return run.result


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    return tmp_path / "letters.jsonl"


def test_a_letter_is_read_back_as_it_was_written(letters: Path) -> None:
    keys = Keys([("one", b"1" * 32)])
    write_letters(letters, [Rejected(7, b"\xff{")], 3, keys)
    letter, detail = read_letter(letters.read_bytes(), keys)
    assert letter == KeptLetter({"topic": "access", "partition": 3}, 7, "missing_actor", b"\xff{")
    assert (letter.origin, detail) == (("access", 3), "no value at 'actor'")
    for damaged in (b"", b"[]", b"7", letters.read_bytes()[:-20], letters.read_bytes().replace(b'"position":7', b"")):
        with pytest.raises(ValueError, match="not a line of dead letters"):
            read_letter(damaged, keys)


def test_copies_have_the_identity_of_their_record() -> None:
    letter = KeptLetter({"topic": "access", "partition": 3}, 7, "bad_json", b"{")
    assert letter.identity == replace(letter, reason="too_large").identity
    others = [
        replace(letter, position=8),
        replace(letter, place={"topic": "access", "partition": 4}),
        replace(letter, place={"topic": "other", "partition": 3}),
        # The topic was created again.
        replace(letter, value=b"["),
    ]
    assert len({one.identity for one in [letter, *others]}) == 5


def test_readable_letters_are_sent_once_and_all_others_stay(letters: Path) -> None:
    write_letters(letters, [Rejected(n, event(n)) for n in range(3)])
    write_letters(
        letters, [Rejected(3, b"{", "bad_json"), Rejected(4, event(4, actor=None)), Rejected(5, b"", "empty")]
    )
    # Written again after a restart.
    write_letters(letters, [Rejected(2, event(2)), Rejected(6, b"a batch", "corrupt_batch")])
    letters.write_bytes(letters.read_bytes().replace(*duplicated(letters, 2)))
    topics = MemoryTopics()
    first = replay(letters, topics)
    assert topics.sent() == [0, 1, 2]
    assert topics.records["access", 0][0].value == event_at(letters, 0)
    assert first.sent == {"missing_actor": 3}
    assert first.stay == {"bad_json": 1, "missing_actor": 1, "empty": 1, "corrupt_batch": 1}
    assert (first.copies, first.already_sent) == (1, 0)
    second = replay(letters, topics)
    assert topics.sent() == [0, 1, 2]
    assert (second.sent, second.stay) == ({}, first.stay)
    assert second.already_sent == 3
    write_letters(letters, [Rejected(9, event(9))])
    assert replay(letters, topics).sent == {"missing_actor": 1}
    assert topics.sent() == [0, 1, 2, 9]


def event_at(letters: Path, line: int) -> bytes:
    return read_letter(letters.read_bytes().splitlines()[line], NO_KEYS)[0].value


def duplicated(letters: Path, position: int) -> tuple[bytes, bytes]:
    """Returns the later letter about a position, and the earlier one, which has another time."""
    lines = [
        line for line in letters.read_bytes().splitlines(keepends=True) if json.loads(line)["position"] == position
    ]
    return lines[1], lines[0]


@pytest.mark.parametrize("is_torn", [False, True])
def test_a_run_that_is_killed_at_any_point_sends_nothing_twice(letters: Path, is_torn: bool) -> None:
    write_letters(letters, [Rejected(n, event(n)) for n in range(4)])
    notes = letters.with_name("letters.jsonl.replayed")
    kills = 0
    while True:
        topics, steps, kills = MemoryTopics(), 0, kills + 1

        def step(last: int = kills) -> None:
            nonlocal steps
            steps += 1
            if steps == last:
                raise KilledError

        try:
            replay(letters, topics, on_step=step)
        except KilledError:
            if is_torn:
                with notes.open("ab") as file:
                    file.write(b'{"sent": ["access/0/3')
            replay(letters, topics)
            assert topics.sent() == [0, 1, 2, 3], f"killed at step {kills}"
            notes.unlink()
        else:
            assert kills > 10
            return


def test_a_run_waits_until_the_records_of_a_killed_one_can_be_read(letters: Path) -> None:
    write_letters(letters, [Rejected(0, event(0))])
    with closing(FileLetterStore(letters, NO_KEYS)) as store:
        store.notes()
        store.begin(LetterBatch("killed", {"access/0": 0}))
    waits: list[float] = []
    with closing(FileLetterStore(letters, NO_KEYS, settled_after=0.5, on_wait=waits.append)) as store:
        begun = time.monotonic()
        assert store.notes().unfinished == {"killed": LetterBatch("killed", {"access/0": 0})}
        assert [0 < wait <= 0.5 for wait in waits] == [True]
        assert time.monotonic() - begun >= waits[0]
        store.end("killed")
    with closing(FileLetterStore(letters, NO_KEYS, on_wait=waits.append)) as store:
        assert store.notes().unfinished == {}
    assert len(waits) == 1


def test_a_dry_run_changes_nothing(letters: Path) -> None:
    write_letters(letters, [Rejected(0, event(0)), Rejected(1, b"{", "bad_json")])
    topics = MemoryTopics()
    result = replay(letters, topics, is_dry=True)
    assert (result.sent, result.stay) == ({"missing_actor": 1}, {"bad_json": 1})
    assert (topics.sent(), [path.name for path in letters.parent.iterdir()]) == ([], ["letters.jsonl"])


def test_letters_that_cannot_be_sent_name_the_reason(letters: Path) -> None:
    write_letters(letters, [Rejected(0, event(0)), Rejected(20, event(1))])
    write_letters(letters, [Rejected(0, event(2))], partition=5)
    with closing(FileDeadLetters(letters)) as more:
        more.write([Letter(Rejected(4, event(3)), {"file": "events.jsonl"})])
    with letters.open("ab") as file:
        file.write(b"not a letter\n{")
    topics = MemoryTopics(committed_to=20)
    result = replay(letters, topics)
    assert topics.sent() == [0]
    assert result.stay == {"uncommitted": 1, "no_topic": 2, "not_a_letter": 1}
    assert result.unreadable == [UnreadableLetter(f"{letters}:5", "not a line of dead letters")]


def test_a_record_that_was_cut_is_not_sent() -> None:
    letter = KeptLetter({"topic": "access", "partition": 0}, 0, "too_large", event(0), is_cut=True)
    readable = ReadableLetters(engine())
    assert readable.read([letter, replace(letter, is_cut=False)]) == [replace(letter, is_cut=False)]
    assert readable.result.stay == {"cut": 1}


def test_only_selected_reasons_are_sent(letters: Path) -> None:
    write_letters(letters, [Rejected(0, event(0)), Rejected(1, event(1), "time_in_future")])
    topics = MemoryTopics()
    assert replay(letters, topics, reasons=["missing_actor"]).not_selected == 1
    assert topics.sent() == [0]
    assert replay(letters, topics).sent == {"time_in_future": 1}


def test_a_refused_record_stops_no_other(letters: Path) -> None:
    large = {4: "x" * 5_000, 7: "y" * 5_000}
    write_letters(letters, [Rejected(n, event(n, note=large.get(n, ""))) for n in range(12)])
    topics = MemoryTopics(most_bytes=4_000)
    result = replay(letters, topics)
    assert Counter(topics.sent()) == Counter(n for n in range(12) if n not in large)
    assert (result.sent, result.refused) == ({"missing_actor": 10}, {"access": 2})
    topics.most_bytes = 10_000
    assert replay(letters, topics).sent == {"missing_actor": 2}


def test_more_letters_than_a_batch_are_sent(letters: Path) -> None:
    write_letters(letters, [Rejected(n, event(n)) for n in range(2_500)])
    topics = MemoryTopics()
    assert replay(letters, topics).sent == {"missing_actor": 2_500}
    assert topics.sent() == list(range(2_500))
    assert replay(letters, topics).already_sent == 2_500


def test_two_runs_do_not_send_at_once(letters: Path) -> None:
    write_letters(letters, [Rejected(0, event(0))])
    with closing(FileLetterStore(letters, NO_KEYS)) as store:
        store.notes()
        with pytest.raises(ReplayInProgressError, match="another run"):
            replay(letters, MemoryTopics())
    assert replay(letters, MemoryTopics()).sent == {"missing_actor": 1}


def test_notes_that_cannot_be_read_stop_the_run(letters: Path) -> None:
    write_letters(letters, [Rejected(0, event(0))])
    letters.with_name("letters.jsonl.replayed").write_text('{"sent": []}\n{"forgotten": 1}\n')
    topics = MemoryTopics()
    with pytest.raises(OSError, match=r"letters\.jsonl\.replayed:2: it is no note of a replay"):
        replay(letters, topics)
    assert topics.sent() == []


def test_notes_contain_no_content_of_records(letters: Path) -> None:
    keys = Keys([("one", b"1" * 32)])
    write_letters(letters, [Rejected(0, event(42))], keys=keys)
    assert replay(letters, MemoryTopics(), keys=keys).sent == {"missing_actor": 1}
    notes = letters.with_name("letters.jsonl.replayed")
    assert b"P42" not in notes.read_bytes()
    assert notes.stat().st_mode & 0o077 == 0


def test_letters_of_files_are_printed_for_a_replay(tmp_path: Path) -> None:
    """A mapping is repaired; the letters are printed as JSON Lines that `custodes replay` counts."""
    lines = [json.dumps({"time": 1_767_600_000 + n, "user": f"P{n}"}) for n in range(3)]
    (tmp_path / "events.jsonl").write_text("\n".join([*lines, "{", ""]))
    replayed = custodes("replay", "events.jsonl", "--dead-letters", "custodes-dead-letters.jsonl", cwd=tmp_path)
    assert replayed.returncode == 1
    config = "source: {file: {paths: [events.jsonl]}}\nmapping: mapping.yml\n"
    (tmp_path / "custodes.yaml").write_text(config)
    (tmp_path / "mapping.yml").write_text("time: time\nactor: [actor, user]\n")
    for _ in range(2):
        again = custodes("dead-letters", "replay", cwd=tmp_path)
        assert (again.returncode, again.stdout.decode().splitlines()) == (0, lines)
        assert b"3: missing_actor 3" in again.stderr
        assert b"1: bad_json 1" in again.stderr
    counted = custodes("replay", "-", "--mapping", "mapping.yml", cwd=tmp_path, stdin=again.stdout)
    assert counted.returncode == 0
    assert b"events         3" in counted.stderr
    dry = custodes("dead-letters", "replay", "--dry-run", "--json", cwd=tmp_path)
    assert (dry.returncode, dry.stdout) == (0, b"")
    assert json.loads(dry.stderr)["sent"] == {"missing_actor": 3}


def test_the_command_lists_letters_without_a_further_word(tmp_path: Path) -> None:
    write_letters(tmp_path / "custodes-dead-letters.jsonl", [Rejected(0, b"{", "bad_json")])
    (tmp_path / "custodes.yaml").write_text("source: {file: {paths: [events.jsonl]}}\n")
    expected = {"topic": "access", "partition": 0, "position": 0, "reason": "bad_json", "value": "{"}
    for arguments in (
        [],
        ["list"],
        ["custodes-dead-letters.jsonl"],
        ["-c", "custodes.yaml"],
        ["list", "./custodes-dead-letters.jsonl"],
    ):
        listed = custodes("dead-letters", *arguments, cwd=tmp_path)
        assert listed.returncode == 0, arguments
        assert json.loads(listed.stdout) == expected | {"detail": "no value at 'actor'"}


def test_wrong_arguments_are_faults(tmp_path: Path) -> None:
    (tmp_path / "custodes.yaml").write_text("source: {file: {paths: [events.jsonl]}}\n")
    missing = custodes("dead-letters", "replay", cwd=tmp_path)
    assert (missing.returncode, b"cannot be read: No such file" in missing.stderr) == (2, True)
    write_letters(tmp_path / "custodes-dead-letters.jsonl", [])
    unknown = custodes("dead-letters", "replay", "--reason", "missing_actr", cwd=tmp_path)
    assert (unknown.returncode, b"did you mean 'missing_actor'?" in unknown.stderr) == (2, True)
    (tmp_path / "custodes-dead-letters.jsonl").write_text(
        json.dumps({"value_base64": base64.b64encode(b"x").decode()}) + "\n"
    )
    damaged = custodes("dead-letters", "replay", cwd=tmp_path)
    assert (damaged.returncode, b"custodes-dead-letters.jsonl:1: not a line" in damaged.stderr) == (1, True)
