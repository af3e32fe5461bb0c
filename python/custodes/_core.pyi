"""The counting engine, compiled from rust/. Times are microseconds since the Unix epoch, UTC."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, final

VERSION: str
"""The version, from Cargo.toml's workspace."""
REASONS: Sequence[str]
"""Every reason a record can be rejected for: the values of ``Reject.reason``."""
SNAPSHOT_VERSION: int
"""The version of what :meth:`Engine.save_frame` and :meth:`Engine.save_part` give; no other can be restored."""
DEBUG_BUILD: bool
"""Whether the engine was compiled without optimisation; such a build is many times slower."""

def count_lines(text: bytes) -> int:
    """How many line ends ``text`` has."""

def is_time_zone(name: str) -> bool:
    """Whether the IANA database, which comes with the engine, has a time zone of this name."""

def fetched_pieces(fetched: bytes, least: int) -> list[tuple[int, int, int, int, int]]:
    """Cuts a fetch of record batches between batches, into pieces of at least ``least`` bytes, by headers alone.

    Of each: where it ends, the offset after it, its last batch's leader epoch, how many records its batches say they
    have, and the latest timestamp of one (epoch milliseconds; -1 for none). Empty where no batch is whole.

    Raises ``ValueError`` for bytes that are no batches of message format v2.
    """

def encode_history(parts: Sequence[tuple[str, int, Recording]]) -> bytes:
    """Writes recordings as one Parquet file.

    Each part is the name of a stream, the first position of it that is not written yet, and what was recorded. The
    columns are ``source``, ``position``, ``time``, ``actor``, ``subject``, ``resource``, ``action``, ``peer_group``,
    ``purpose``, ``client_ip``, ``app`` and ``record``, which stands in the first row of an event only.
    """

def merge_history(inputs: Sequence[Path], output: Path, keyring: Keyring) -> None:
    """Merges files that are sorted as :func:`encode_history` sorts, by actor and time, each encrypted or not.

    The result is safely on the disk. Raises ``OSError`` for what cannot be read or written.
    """

class SourceRecord(Protocol):
    """What ``process_records`` needs of a record; kafka-python's ``ConsumerRecord`` is one."""

    @property
    def offset(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...

@final
class FindingChange:
    """A finding that changed in a batch, with its figures at the batch's end."""

    kind: Literal["opened", "updated", "closed", "merged"]
    """``merged``: an event out of order joined it to ``merged_into``, which carries on."""
    id: str
    """UUIDv5 of rule id, group and opening pane; stable once given."""
    rule: int
    """The rule's position in the plan."""
    group: list[str]
    """The values of the rule's group-by fields, in its order."""
    opened_at: int
    """Time of the event that made the condition hold."""
    closed_at: int | None
    """End of the last pane at which it held; ``None`` while open."""
    held_from: int
    """Start of the first pane at which it held."""
    held_until: int
    """End of the last pane at which it holds as far as is known."""
    peak: float
    """Largest count in any pane."""
    threshold: float
    """What its group's count is held against."""
    usual: float | None
    """What was usual for the group, where a baseline made the threshold."""
    count: int
    """Matching events from the opening window's start to the last held pane."""
    merged_into: str | None

@final
class Reject:
    """A record that was not counted."""

    position: int
    """Kafka offset or line number."""
    reason: str
    """One of ``REASONS``."""
    detail: str
    """What exactly, for a person."""
    value: bytes
    """The record as it came; empty for a tombstone. Of a corrupt record batch, the batch."""

@final
class Outcome:
    """What came of a batch."""

    changes: list[FindingChange]
    """Findings that opened, were merged or closed; for those that only grew see :meth:`Engine.updates`."""
    rejects: list[Reject]
    events: int
    """Records counted."""
    late: int
    """Of these, events the watermark had already passed."""
    watermark: int | None
    clock: int | None
    """The largest event time seen on the batch's stream."""
    parcels: list[tuple[int, int, bytes]]
    """Events that other engines count: each parcel's share, the position of its first event, and the events."""
    recording: Recording
    """The events, where the plan wants them kept for the history; else empty."""

@final
class Recording:
    """What is kept of a batch's events: a row for each event and each of its subjects."""

    last_position: int | None
    """Where the last event is in its stream; ``None`` where there is none."""
    def __len__(self) -> int: ...

@final
class RuleStats:
    """Figures of one rule now."""

    groups: int
    open_findings: int
    unlisted: int
    """Groups for which the condition holds, but of which there are too many for a finding each."""
    opened: int
    matched: int
    peak_ratio: float
    """Largest count any group reached within the last timespan, over the threshold."""

@final
class Shed:
    """What was forgotten because memory ran short."""

    before: int
    """It had last been seen before this time."""
    rules: list[tuple[int, int]]
    """By rule: groups that start at nothing if they come again, and values that count again if they do."""

@final
class Stats:
    """Figures of the engine now."""

    rules: list[RuleStats]
    bytes: int
    """Memory held by windows."""
    watermark: int | None
    newest: int | None
    """Largest event time seen."""

@final
class Tables:
    """The look-up tables of derived fields, shared by engines and exchanged while they are at work."""

    def __new__(cls) -> Tables: ...
    def put(self, name: str, csv: bytes, keys: int, value: str | None, secret: bytes) -> int:
        """Puts a table in force from the next batch on; returns how many entries it has.

        ``csv`` has a header line. Its first ``keys`` columns are the key; ``value`` names the column that is looked up,
        ``None`` asks whether the key is there. ``secret`` are 16 random bytes. Raises ``ValueError`` with the line of
        what is wrong; then the table before it stays.
        """
    def update_from(self, others: Tables) -> None:
        """Puts all of another's tables in force at once, from the next batch on."""
    def become_like(self, others: Tables) -> None:
        """Puts another's tables in force, and none beside them."""

@final
class Engine:
    """Counts events by the rules of a plan (JSON, see ``rust/engine/src/plan.rs``).

    Calls from several threads take turns; the interpreter lock is free while the engine works.
    ``threads`` share the work of a batch; any number of them comes to the same findings.
    Raises ``ValueError`` for a plan that cannot be run, naming rule and field.
    """

    def __new__(cls, plan: str, threads: int = 1) -> Engine: ...
    def use_tables(self, tables: Tables) -> None:
        """Has derived fields look up in these tables. An engine made of this one has them as well."""

    def process_lines(self, text: bytes, first_line: int = 1, stream: int = 0, now: int | None = None) -> Outcome:
        """Counts a batch of JSON Lines. ``first_line`` numbers the first line for rejects.

        ``now`` is the clock that future times are told against; ``None`` takes any time.
        """

    def process_records(self, records: Sequence[SourceRecord], stream: int = 0, now: int | None = None) -> Outcome:
        """Counts a batch of records of one stream, in the order given."""

    def process_fetched(
        self,
        fetched: bytes,
        position: int = 0,
        stream: int = 0,
        now: int | None = None,
        aborted: Sequence[tuple[int, int]] | None = None,
        span: tuple[int, int] | None = None,
    ) -> Outcome:
        """Counts Kafka record batches (message format v2) of one partition, records before ``position`` excepted.

        ``aborted`` lists aborted transactions as (producer id, first offset), whose records are passed over;
        ``None`` reads all. ``span`` is the part of the bytes that is meant (from, to); ``None`` is all. A batch that is
        damaged is one reject, with its base offset.
        """

    def process_parcel(self, parcel: bytes, position: int = 0, stream: int = 0) -> Outcome:
        """Counts events that another engine handed on, which are ``stream``'s; those before ``position`` came before.

        Raises ``ValueError`` for bytes that are no parcel; then nothing is counted.
        """

    def observe(self, stream: int, time: int) -> Outcome:
        """Takes notice of how far a stream has come whose other events are counted elsewhere."""

    def parts(self) -> int:
        """How many parts a snapshot has."""

    def save_frame(self) -> bytes:
        """What all parts of a snapshot share. It comes first: where the source then is, it begins after a restart."""

    def save_part(self, part: int, positions: Mapping[int, int]) -> list[bytes]:
        """A part of the state as it stands. Batches may be counted between two parts.

        ``positions`` are the source's: by stream, the position of its next event. The bytes come in pieces, which
        belong together.
        """

    def replanned(
        self, plan: str, positions: Mapping[int, int], threads: int = 1
    ) -> tuple[Engine, list[str], list[str], list[tuple[str, int]]]:
        """An engine that goes on from this one under another plan; what is returned is as for :func:`restore`."""

    def begin_anew(self, stream: int) -> None:
        """Counts a stream's events from wherever it begins now, though a snapshot had counted further."""

    def join(self, stream: int) -> None:
        """Lets a stream hold the watermark back from now on: a new one before its first event, an idle one again."""

    def leave(self, stream: int) -> Outcome:
        """Takes a stream away; the watermark may move on."""

    def set_idle(self, stream: int) -> Outcome:
        """Lets the watermark go on without this stream until its next event."""

    def finish(self) -> Outcome:
        """No more events will come: judges and closes everything."""

    def updates(self) -> list[FindingChange]:
        """Findings whose figures have changed since they were last told of, one entry each.

        A busy finding changes with every batch, so its reader says how often it wants to hear of it. Opening,
        merging and closing are in the outcome of the very call that brought them about.
        """

    def used_bytes(self) -> int:
        """Memory held by windows, in bytes, without what waits to be used again."""

    def shed(self, most_bytes: int) -> Shed | None:
        """Forgets what has not been seen for longest until no more than ``most_bytes`` are in use.

        Groups with an open finding, or at more than half of a threshold, are kept, and so is what may still come out of
        order; it may not be enough. ``None`` where nothing needed to be forgotten.
        """

    def standing(self, rule: int, group: Sequence[str], time: int) -> tuple[float, float | None, float | None] | None:
        """How a group stands with the plan's ``rule``th rule in the window that ends with the pane of ``time`` (µs).

        Its count or measure, what that is held against (``None`` where nothing is known yet), and what is usual for it
        where there is a baseline. ``None`` for a group that is not known.
        """

    def stats(self) -> Stats:
        """Figures now."""

def restore(
    plan: str, frame: bytes, parts: Sequence[bytes], threads: int = 1
) -> tuple[Engine, list[str], list[str], list[tuple[str, int]]]:
    """An engine that goes on from what :meth:`Engine.save_frame` and :meth:`Engine.save_part` gave.

    The source begins where it was when the frame was saved. What a part had counted by then or later, which it knows
    by the events' positions, is not counted in it again.

    The plan may be another. Returned are ids of rules whose windows were dropped, ids of rules whose open findings
    were, and these findings as (id, end of the last pane they are known to have held).

    Raises ``ValueError`` for a plan that cannot be run and for bytes that are damaged or of another version.
    """

class Keyring:
    """Keys of files, by name: the first is for what is written, all for what is read. Used from any thread."""

    def __init__(self, keys: Sequence[tuple[str, bytes]]) -> None:
        """Each is a name and 32 bytes. Raises ``ValueError``."""

    @property
    def current(self) -> str | None:
        """The name of the key for what is written; ``None`` where nothing is encrypted."""

    def encrypt(self, plain: bytes) -> bytes:
        """As it is written; without a key as it is."""

    def decrypt(self, encrypted: bytes) -> bytes:
        """Raises ``PermissionError`` where its key is not there, ``OSError`` for what is not as it was written."""

    def open(self, path: Path) -> StoredFile:
        """A file, encrypted or not. Raises as :meth:`decrypt`, and what the disk refuses."""

class StoredFile:
    """A file that is read at any place, as it was before it was encrypted. Used from any thread."""

    def __len__(self) -> int: ...
    def read_at(self, offset: int, count: int) -> bytes:
        """Fewer bytes than wanted where it ends before. Raises as :meth:`Keyring.decrypt`."""

class EvidenceDamagedError(Exception):
    """An evidence log is not as it was written; the message says where. Nothing is added to such a one."""

class EvidenceLog:
    """An append-only log in which later changes show, open. Used from any thread.

    What an entry is about is named by 16 bytes. Entries are read with 16 random bytes before them, as they are hashed.
    """

    def __init__(self, folder: Path, name: str, secret: bytes, keyring: Keyring) -> None:
        """``secret`` is 32 random bytes, which heads are signed with; entries are encrypted by ``keyring``. That nobody
        else writes is the caller's care.

        Raises :class:`EvidenceDamagedError`, and ``OSError``.
        """

    @staticmethod
    def read(folder: Path, key: str, keyring: Keyring) -> EvidenceLog:
        """A log that others may write meanwhile, open for reading.

        Raises as the constructor does, and ``ValueError`` for what is no key.
        """

    def append(self, key: bytes, entries: Sequence[bytes], time: int) -> None:
        """Adds entries: they are on the disk and signed once this returns. ``time`` is in microseconds.

        Raises ``OSError``; then none was added.
        """

    @property
    def size(self) -> int:
        """How many entries there are."""

    @property
    def head(self) -> str | None:
        """Size and root of the log, signed: a C2SP checkpoint. ``None`` of an empty log."""

    @property
    def key(self) -> str:
        """The public key, as C2SP signed notes have it."""

    def keys(self) -> list[bytes]:
        """What there are entries about."""

    def runs(self, key: bytes) -> list[tuple[int, int]]:
        """The runs of entries about a thing: the first and the last of each."""

    def entries(self, key: bytes) -> list[tuple[int, bytes]]:
        """The entries about a thing with their numbers, without those that were erased. Raises ``OSError``."""

    def proofs(self, numbers: Sequence[int]) -> list[list[bytes]]:
        """The hashes beside the way from each of these entries to the last head's root. Raises ``OSError``."""

    def erase(self, keys: Sequence[bytes]) -> None:
        """Takes the entries about these things away for good; only their hashes stay. Raises ``OSError``."""

class EvidenceFault:
    """Something that is not as it was written."""

    place: str
    """The file, or the head that tells of it."""
    offset: int | None
    """How many bytes into the file."""
    entries: tuple[int, int] | None
    """The first and the last entry concerned, as far as can be told."""
    what: str

class EvidenceReport:
    """What there is in a log, and what is wrong with it."""

    entries: int
    blocks: int
    gone: list[tuple[int, int]]
    """Runs of entries of which only the hashes are left: the first and the last of each."""
    faults: list[EvidenceFault]
    found: list[tuple[int, bytes]]
    """The entries that begin as was asked for, without their random bytes."""

def verify_evidence(
    folder: Path, keys: Sequence[str], heads: Sequence[tuple[str, str]], sought: bytes, keyring: Keyring
) -> EvidenceReport:
    """Reads a whole log, and holds it against heads that were kept, each with the name of where.

    ``sought`` is how entries begin that are wanted with the report. Raises ``OSError``, and ``ValueError`` for what
    is no key.
    """

def open_head(keys: Sequence[str], note: str) -> tuple[int, bytes, int] | None:
    """Size, root and time in microseconds of a head that one of the keys has signed; ``None`` for anything else."""

def is_in_log(entry: bytes, number: int, path: Sequence[bytes], size: int, root: bytes) -> bool:
    """Whether an entry is where it should be in the tree of that size and root (RFC 9162)."""
