"""The counting engine, compiled from rust/. Times are microseconds since the Unix epoch, UTC."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, Self, final, type_check_only

__all__ = [
    "DEBUG_BUILD",
    "READABLE_SNAPSHOT_VERSIONS",
    "REASONS",
    "SNAPSHOT_VERSION",
    "VERSION",
    "Dropped",
    "Engine",
    "Evicted",
    "EvictedCounts",
    "EvidenceDamagedError",
    "EvidenceFault",
    "EvidenceLog",
    "EvidenceReport",
    "FetchedPiece",
    "FindingChange",
    "GroupStatus",
    "Keyring",
    "OrphanedFinding",
    "Outcome",
    "PlanError",
    "Recording",
    "Reject",
    "RepartitionBatch",
    "RestoreError",
    "Restored",
    "RuleStats",
    "Stats",
    "StoredFile",
    "TableError",
    "Tables",
    "count_lines",
    "encode_history",
    "fetched_pieces",
    "is_in_log",
    "is_time_zone",
    "merge_history",
    "normalise",
    "open_head",
    "restore",
    "verify_evidence",
]

VERSION: str
"""The version of the workspace in Cargo.toml."""
REASONS: Sequence[str]
"""All values of ``Reject.reason``."""
SNAPSHOT_VERSION: int
"""Version of the snapshot format that is written."""
READABLE_SNAPSHOT_VERSIONS: Sequence[int]
"""All versions of the snapshot format that can be restored."""
DEBUG_BUILD: bool
"""Whether the engine was compiled without optimisation, and is many times slower."""

def count_lines(text: bytes) -> int:
    """Returns the number of line ends in ``text``."""

def is_time_zone(name: str) -> bool:
    """Returns whether the IANA database, which is part of the engine, has a time zone of this name."""

def normalise(form: str, text: str) -> str:
    """Returns the normal form of an identity. Raises ``ValueError`` for a ``form`` that is not JSON as in the plan."""

class PlanError(ValueError):
    """A plan cannot be run. The message contains the location; the attributes give its parts."""

    kind: str
    """``schema``, ``path``, ``unmapped``, ``derived``, ``time_zone``, ``key``, ``partition``, ``threads``, ``rule``."""
    rule: str | None
    """Id of the rule, if the fault is in one."""
    field: str | None
    """Name of the field, if the fault is in one."""
    problem: str
    """The fault, without its location."""

class RestoreError(ValueError):
    """A snapshot cannot be restored."""

    kind: str
    """``version``, ``damaged`` or ``key`` (made with another fingerprint key)."""

class TableError(ValueError):
    """A look-up table cannot be loaded."""

    line: int
    """Line of the fault, from 1."""
    problem: str
    """The fault, without its line."""

@final
class FetchedPiece:
    """A run of complete record batches of a fetch, as described by their headers."""

    end: int
    """End in the fetch, in bytes; the piece starts at the end of the previous one."""
    next_offset: int
    """Offset after the piece."""
    leader_epoch: int
    """Leader epoch of the last batch."""
    records: int
    """Number of records, control records included."""
    latest_ms: int
    """Largest timestamp of a record, in epoch milliseconds; -1 if there is none."""

def fetched_pieces(fetched: bytes, least: int) -> list[FetchedPiece]:
    """Splits a fetch between record batches into pieces of at least ``least`` bytes, by headers alone.

    Returns no pieces if no batch is complete. Raises ``ValueError`` if the bytes are not of message format v2.
    """

def encode_history(parts: Sequence[tuple[str, int, Recording]]) -> bytes:
    """Encodes recorded events as one Parquet file.

    Each part is the name of a stream, its first position to write, and its recorded events. The
    columns are ``source``, ``position``, ``time``, ``actor``, ``subject``, ``resource``, ``action``, ``peer_group``,
    ``purpose``, ``client_ip``, ``app`` and ``record``, which is in the first row of an event only.
    """

def merge_history(inputs: Sequence[Path], output: Path, keyring: Keyring) -> None:
    """Merges files sorted as by :func:`encode_history`, by actor and time, each encrypted or not.

    The output is on disk when this returns. Raises ``OSError`` if a file cannot be read or written.
    """

@type_check_only
class _SourceRecord(Protocol):
    """Attributes of a record for ``process_records``; kafka-python's ``ConsumerRecord`` has them."""

    @property
    def offset(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...

@final
class FindingChange:
    """A changed finding, as of the end of the batch."""

    kind: Literal["opened", "updated", "closed", "merged"]
    """``merged``: an out-of-order event joined it to ``merged_into``, which continues."""
    id: str
    """UUIDv5 of rule id, group and opening pane; stable once reported."""
    rule: int
    """Index of the rule in the plan."""
    group: list[str]
    """Values of the rule's group-by fields, in their order, as an event of the group wrote them."""
    key: list[str]
    """The same in normal form: equal for all spellings of an identity."""
    opened_at: int
    """Time of the event that made the condition hold."""
    closed_at: int | None
    """End of the last pane in which the condition held; ``None`` while open."""
    held_from: int
    """Start of the first pane in which the condition held."""
    held_until: int
    """End of the last pane in which the condition is known to hold."""
    peak: float
    """Largest count or measure in any pane."""
    threshold: float
    """Threshold that the count is compared with."""
    expected: float | None
    """Expected count, if a baseline made the threshold."""
    count: int
    """Matching events from the start of the opening window to the last pane in which the condition held."""
    merged_into: str | None

@final
class Reject:
    """A record that was not counted."""

    position: int
    """Kafka offset or line number."""
    reason: str
    """One of ``REASONS``."""
    detail: str
    """Details for a person."""
    value: bytes
    """The record as received; empty for a tombstone. For a corrupt record batch, the batch."""

@final
class RepartitionBatch:
    """Events from one source for one partition, which another engine counts."""

    partition: int
    first: int
    """Source position of the first event."""
    events: bytes
    """The encoded events."""
    def __new__(cls, partition: int, first: int, events: bytes) -> RepartitionBatch: ...

@final
class Outcome:
    """Result of a batch."""

    changes: list[FindingChange]
    """Findings that opened, were merged or closed; those that only grew are in :meth:`Engine.updates`."""
    rejects: list[Reject]
    events: int
    """Number of records counted."""
    late: int
    """Number of these that were late: the watermark had passed their time."""
    unmatched: int
    """Number of these that met no condition of any rule."""
    no_access: int
    """Number of these that are no access, such as logins and heartbeats; no rule sees them."""
    skipped_nulls: int
    """Nulls that were skipped in lists of values."""
    repaired: int
    """Number of these with bytes that are not UTF-8, which were replaced."""
    watermark: int | None
    clock: int | None
    """Largest event time on the batch's stream."""
    repartition_batches: list[RepartitionBatch]
    """Events that other engines count; batches for one partition are in order."""
    recording: Recording
    """The events, if the plan records the history; otherwise empty."""

@final
class Recording:
    """The recorded events of a batch: one row per event and subject."""

    last_position: int | None
    """Position of the last event in its stream; ``None`` if there are no events."""
    def __len__(self) -> int: ...

@final
class RuleStats:
    """Statistics of one rule."""

    groups: int
    open_findings: int
    suppressed: int
    """Groups that meet the condition but got no finding because too many are open."""
    opened: int
    matched: int
    peak_ratio: float
    """Ratio of the largest count of any group within the last timespan to the threshold."""

@final
class EvictedCounts:
    """Evicted state of one rule."""

    groups: int
    """Groups that start from zero if they return."""
    values: int
    """Values that count again if they return."""

@final
class Evicted:
    """State that was evicted because memory ran short."""

    before: int
    """Cut-off: the evicted groups and values were last seen before this time."""
    rules: list[EvictedCounts]
    """Per rule, in the plan's order."""

@final
class GroupStatus:
    """Status of a group for one rule."""

    level: float
    """Current count or measure."""
    threshold: float | None
    """Threshold that it is compared with; ``None`` while a baseline has no expected value."""
    expected: float | None
    """Expected count, if the rule has a baseline."""

@final
class OrphanedFinding:
    """An open finding whose rule changed or was removed."""

    id: str
    held_until: int
    """End of the last pane in which the condition is known to hold."""

@final
class Dropped:
    """State of a snapshot that the plan cannot use."""

    windows: list[str]
    """Ids of rules whose windows start empty or no longer exist."""
    decisions: list[str]
    """Ids of rules whose open findings ended."""
    orphans: list[OrphanedFinding]
    """Those findings."""

@final
class Restored:
    """A restored engine, and the state that its plan cannot use."""

    engine: Engine
    dropped: Dropped

@final
class Stats:
    """Current statistics."""

    rules: list[RuleStats]
    bytes: int
    """Memory of all windows, in bytes."""
    watermark: int | None
    newest: int | None
    """Largest event time."""

@final
class Tables:
    """Look-up tables of derived fields, shared by engines and replaced while they run."""

    def __new__(cls) -> Tables: ...
    def put(self, name: str, csv: bytes, forms: Sequence[str | None], value: str | None, secret: bytes) -> int:
        """Replaces a table from the next batch on; returns its number of entries.

        ``csv`` has a header line. ``forms`` has one element per key column, from the first: the normal form of an
        identity, as JSON, or ``None``. ``value`` names the column to look up, ``None`` tests whether the key exists.
        ``secret`` is 16 random bytes. Raises :class:`TableError`; the previous table is kept then.
        """
    def update_from(self, others: Tables) -> None:
        """Replaces or adds all tables of another set, at once, from the next batch on."""
    def become_like(self, others: Tables) -> None:
        """Replaces the whole set by another."""

@final
class Engine:
    """Counts events by the rules of a plan (JSON, see ``rust/engine/src/plan``).

    Calls from several threads are serialised; the GIL is free while the engine works. The findings do not depend on
    the number of ``threads`` (1 by default). Raises :class:`PlanError` if the plan cannot be run.
    """

    def __new__(cls, plan: str, threads: int = ...) -> Engine: ...
    def use_tables(self, tables: Tables) -> None:
        """Sets the look-up tables of derived fields. Engines made from this one use them too."""

    def process_lines(self, text: bytes, first_line: int = 1, stream: int = 0, now: int | None = None) -> Outcome:
        """Counts a batch of JSON Lines. ``first_line`` is the number of the first line, for rejects.

        ``now`` is the current time, used to reject times too far in the future; ``None`` accepts all.
        """

    def process_records(self, records: Sequence[_SourceRecord], stream: int = 0, now: int | None = None) -> Outcome:
        """Counts a batch of records of one stream, in the given order."""

    def process_fetched(
        self,
        fetched: bytes,
        position: int = 0,
        stream: int = 0,
        now: int | None = None,
        aborted: Sequence[tuple[int, int]] | None = None,
        span: tuple[int, int] | None = None,
    ) -> Outcome:
        """Counts Kafka record batches (message format v2) of one partition; skips records before ``position``.

        ``aborted`` lists aborted transactions as (producer id, first offset), whose records are skipped; ``None`` reads
        all. ``span`` limits the call to a range of the bytes (from, to). A damaged batch yields one reject at its base
        offset.
        """

    def process_repartition_batch(self, batch: bytes, position: int = 0, stream: int = 0) -> Outcome:
        """Counts events that another engine forwarded, as events of ``stream``; skips those before ``position``.

        ``batch`` is the bytes of one :class:`RepartitionBatch`, or of several joined. Raises ``ValueError`` if they are
        malformed; nothing is counted then.
        """

    def observe(self, stream: int, time: int) -> Outcome:
        """Advances the clock of a stream whose events another engine counts."""

    def parts(self) -> int:
        """Returns the number of parts of a snapshot."""

    def save_frame(self) -> bytes:
        """Saves what all parts of a snapshot have in common. Call it before :meth:`save_part`.

        After a restore the source starts at its position of this moment.
        """

    def save_part(self, part: int, positions: Mapping[int, int]) -> list[bytes]:
        """Saves one part as of now. Batches may be counted between two parts.

        ``positions`` holds, for each source stream, the position of its next event. The bytes are returned in chunks to
        be joined.
        """

    def replanned(self, plan: str, positions: Mapping[int, int], threads: int = ...) -> Restored:
        """Returns an engine with another plan and this engine's state.

        Raises :class:`PlanError`; this engine stays usable then.
        """

    def reset_stream(self, stream: int) -> None:
        """Counts a stream from its next event on, even if the snapshot had counted further."""

    def join(self, stream: int) -> None:
        """A stream then holds back the watermark: before its first event, or again after it was idle."""

    def leave(self, stream: int) -> Outcome:
        """Removes a stream; the watermark may advance."""

    def set_idle(self, stream: int) -> Outcome:
        """Stops a stream from holding the watermark back until its next event."""

    def finish(self) -> Outcome:
        """Ends the input: evaluates and closes everything."""

    def updates(self) -> list[FindingChange]:
        """Returns the findings whose values changed since they were last reported, one entry each.

        An active finding changes with every batch, so the caller decides how often to ask. Opening, merging and closing
        are in the outcome of the call that caused them.
        """

    def used_bytes(self) -> int:
        """Returns the memory in use, in bytes, without free slots."""

    def evict(self, most_bytes: int) -> Evicted | None:
        """Evicts the groups and values with the oldest events until at most ``most_bytes`` are in use.

        Groups with an open finding or above half of a threshold are kept, and so is everything that can still be
        reordered, so it may not suffice. Returns ``None`` if nothing had to be evicted.
        """

    def group_status(self, rule: int, group: Sequence[str], time: int) -> GroupStatus | None:
        """Returns the status of a group for rule number ``rule``, in the window that ends with the pane of ``time``.

        ``group`` holds the values of the rule's group-by fields. ``None`` if the group is unknown.
        """

    def stats(self) -> Stats:
        """Returns the current statistics."""

def restore(plan: str, frame: bytes, parts: Sequence[bytes], threads: int = ...) -> Restored:
    """Restores an engine from what :meth:`Engine.save_frame` and :meth:`Engine.save_part` returned.

    The source starts where it was when the frame was saved. Events that a part had counted by then or later are
    recognised by their positions and not counted in it again. The plan may have changed.

    Raises :class:`PlanError` if the plan cannot be run, :class:`RestoreError` if the snapshot cannot be read.
    """

@final
class Keyring:
    """Named keys: the first encrypts, all decrypt. Thread-safe."""

    def __new__(cls, keys: Sequence[tuple[str, bytes]]) -> Self:
        """Each key is a name and 32 bytes. Raises ``ValueError``."""

    @property
    def current(self) -> str | None:
        """Name of the key used to encrypt; ``None`` if nothing is encrypted."""

    def encrypt(self, plain: bytes) -> bytes:
        """Encrypts the bytes; without a key, returns them unchanged."""

    def decrypt(self, encrypted: bytes) -> bytes:
        """Raises ``PermissionError`` if the key is not in the keyring, ``OSError`` if the bytes were changed."""

    def open(self, path: Path) -> StoredFile:
        """Opens a file, encrypted or not. Raises like :meth:`decrypt`, and ``OSError``."""

@final
class StoredFile:
    """The plain content of a file, read at any position. Thread-safe."""

    def __len__(self) -> int: ...
    def read_at(self, offset: int, count: int) -> bytes:
        """Reads up to ``count`` bytes; fewer at the end. Raises like :meth:`Keyring.decrypt`."""

class EvidenceDamagedError(Exception):
    """An evidence log was changed; the message contains the place. Nothing is appended to such a log."""

@final
class EvidenceLog:
    """An open append-only log in which later changes are detectable. Thread-safe.

    The subject of an entry is named by 16 bytes. Entries are read with the 16 random bytes before them, as hashed.
    """

    def __new__(cls, folder: Path, name: str, secret: bytes, keyring: Keyring) -> Self:
        """``secret`` is 32 random bytes used to sign heads; entries are encrypted with ``keyring``. The caller must
        ensure that there is only one writer.

        Raises :class:`EvidenceDamagedError`, and ``OSError``.
        """

    @staticmethod
    def read(folder: Path, key: str, keyring: Keyring) -> EvidenceLog:
        """Opens a log for reading that may be written meanwhile.

        Raises like the constructor, and ``ValueError`` if the key is malformed.
        """

    def append(self, key: bytes, entries: Sequence[bytes], time: int) -> None:
        """Appends entries: they are on disk and signed when this returns. ``time`` is in microseconds.

        Raises ``OSError``; nothing was appended then.
        """

    @property
    def size(self) -> int:
        """Number of entries."""

    @property
    def head(self) -> str | None:
        """Size and root of the log, signed: a C2SP checkpoint. ``None`` if the log is empty."""

    @property
    def key(self) -> str:
        """The public key in the format of C2SP signed notes."""

    def keys(self) -> list[bytes]:
        """Subjects of the entries."""

    def runs(self, key: bytes) -> list[tuple[int, int]]:
        """Runs of entries about a subject: first and last of each."""

    def entries(self, key: bytes) -> list[tuple[int, bytes]]:
        """Entries about a subject with their numbers; erased ones are omitted. Raises ``OSError``."""

    def proofs(self, numbers: Sequence[int]) -> list[list[bytes]]:
        """Inclusion proof of each of these entries against the last head. Raises ``OSError``."""

    def erase(self, keys: Sequence[bytes]) -> None:
        """Erases the entries about these subjects; only their hashes remain. Raises ``OSError``."""

@final
class EvidenceFault:
    """A deviation from what was written."""

    place: str
    """The file, or the head that contradicts it."""
    offset: int | None
    """Byte offset in the file."""
    entries: tuple[int, int] | None
    """First and last entry concerned, if known."""
    what: str

@final
class EvidenceReport:
    """Content of a log, and all faults in it."""

    entries: int
    blocks: int
    gone: list[tuple[int, int]]
    """Runs of erased entries, of which only hashes remain: first and last of each."""
    faults: list[EvidenceFault]
    found: list[tuple[int, bytes]]
    """Entries that start with the requested bytes, without their random bytes."""

def verify_evidence(
    folder: Path, keys: Sequence[str], heads: Sequence[tuple[str, str]], sought: bytes, keyring: Keyring
) -> EvidenceReport:
    """Reads a whole log and compares it with heads stored elsewhere, each with the name of its place.

    ``sought`` is the start of the entries to return. Raises ``OSError``, and ``ValueError`` if a key is malformed.
    """

def open_head(keys: Sequence[str], note: str) -> tuple[int, bytes, int] | None:
    """Returns size, root and time in microseconds of a head signed with one of the keys; ``None`` for anything else."""

def is_in_log(entry: bytes, number: int, path: Sequence[bytes], size: int, root: bytes) -> bool:
    """Returns whether an entry is included in the tree of that size and root (RFC 9162)."""
