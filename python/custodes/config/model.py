"""The configuration's shape. Field descriptions are the reference documentation."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    ByteSize,
    Field,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from custodes._core import is_time_zone
from custodes.config.alerts import Alerts, KafkaReceiver
from custodes.config.listen import parse_listen
from custodes.config.memory import half_of_memory
from custodes.config.section import Duration, Section
from custodes.config.sign_in import OidcSettings
from custodes.config.threads import MOST_THREADS, usable_cores


def _listenable(listen: str) -> str:
    parse_listen(listen)
    return listen


def _known_zone(zone: str) -> str:
    if not is_time_zone(zone):
        raise ValueError(f"'{zone}' is no time zone; wanted one like Europe/Berlin or UTC")
    return zone


class KafkaSourceSettings(Section):
    """Events from Kafka topics, through a consumer group."""

    bootstrap_servers: list[str] = Field(min_length=1, description="Brokers to start from, as host:port.")
    topics: list[str] = Field(min_length=1, description="Topics that carry access events.")
    group_id: str = Field("custodes", description="Consumer group; processes in one group share the partitions.")
    dead_letter_topic: str | None = Field(
        None,
        description="Where rejected records go, with their offset and reason. Default: dead_letter.file.",
    )
    max_poll_records: int = Field(
        20_000, ge=1, description="Most fetches, or records where they come one by one, handled in one call."
    )
    client: dict[str, Any] = Field(
        default_factory=dict,
        description="Further kafka-python settings for consumer and producer, e.g. security_protocol.",
    )


class TableTopicSettings(Section):
    """A look-up table in a compacted topic of ``source.kafka``: each record a row, a JSON object by column."""

    topic: str = Field(description="The topic. A record's key says which row it is; one without a value takes it away.")
    columns: list[str] = Field(
        min_length=1, description="The columns, those of the key first, as a file's header has them."
    )


class FileSourceSettings(Section):
    """Events from JSON Lines files, plain, .gz or .zst, one after the other; `-` is standard input."""

    paths: list[Path] = Field(min_length=1, description="Files to read.")


class SourceSettings(Section):
    """Where events come from: exactly one of these."""

    kafka: KafkaSourceSettings | None = Field(None, description="Read from Kafka.")
    file: FileSourceSettings | None = Field(None, description="Read from files.")

    @model_validator(mode="after")
    def _exactly_one(self) -> SourceSettings:
        if (self.kafka is None) == (self.file is None):
            raise ValueError("wants exactly one of kafka, file")
        return self


class EventTimeSettings(Section):
    """How event time is understood."""

    allowed_lateness: Duration = Field(
        timedelta(seconds=10),
        description="How far out of order events may come and still count exactly.",
        json_schema_extra={"default": "10s"},
    )
    max_future_skew: Duration = Field(
        timedelta(minutes=10),
        description="An event further ahead of the clock than this is rejected.",
        json_schema_extra={"default": "10m"},
    )
    earliest: date = Field(date(2000, 1, 1), description="An event before this day is rejected.")
    zone: Annotated[str, AfterValidator(_known_zone)] = Field(
        "UTC", description="Where hours and days are meant, as rules use them, e.g. Asia/Shanghai."
    )
    idle_after: Duration = Field(
        timedelta(seconds=10),
        description="A partition silent for this long no longer holds the watermark back.",
        json_schema_extra={"default": "10s"},
    )


class EngineSettings(Section):
    """How the counting engine runs."""

    threads: int = Field(
        default_factory=usable_cores,
        ge=1,
        le=MOST_THREADS,
        description="Threads that count; any number of them comes to the same findings.",
        json_schema_extra={"default": "the cores there are, at most 4"},
    )
    memory: ByteSize = Field(
        default_factory=lambda: ByteSize(half_of_memory()),
        ge=1 << 20,
        description="Most memory for windows, e.g. 4GiB. Beyond it, what was not seen for longest is forgotten, though "
        "never a group with a finding or close to one.",
        json_schema_extra={"default": "half of what the process may use"},
    )


class FindingsSettings(Section):
    """Where findings are kept."""

    database: str = Field("sqlite:///custodes.db", description="SQLAlchemy URL.")
    most_open: int = Field(
        10_000,
        ge=1,
        description="About how many findings of one rule may be open. In a storm beyond that, only groups that reach "
        "twice the threshold are added, as many again, then those that reach four times, and so on; the rest are "
        "counted.",
    )


class StateSettings(Section):
    """Snapshots of the windows, from which a restart goes on."""

    folder: Path = Field(
        Path("custodes-state"),
        description="Where snapshots are kept; of this process alone. They hold names and must be as well guarded.",
    )
    interval: Duration = Field(
        timedelta(seconds=30),
        description="How often one is taken. A restart hears again what came since the last.",
        json_schema_extra={"default": "30s"},
    )
    keep: int = Field(3, ge=1, description="How many are kept, for when the newest cannot be read.")


class HistorySettings(Section):
    """Every event, kept for a while, for people: what lies behind a finding, what else an actor did."""

    folder: Path = Field(
        Path("custodes-history"),
        description="Where it is kept, as Parquet files; of this process alone. They hold what the events hold, and "
        "must be as well guarded.",
    )
    keep: Duration = Field(
        timedelta(days=35),
        description="How long before the newest event others are kept: longer than the longest window.",
        json_schema_extra={"default": "35d"},
    )


def _known_anchor(where: str) -> str:
    if not where.startswith(("file:///", "syslog:", "https://", "http://")):
        raise ValueError(f"'{where}' is no anchor; wanted file:///…, syslog: or https://…")
    return where


class EvidenceSettings(Section):
    """The events behind findings, in a log in which any later change shows."""

    folder: Path = Field(
        Path("custodes-evidence"),
        description="Where the log is kept; of this process alone. It names people, and must be as well guarded as "
        "the history.",
    )
    key: Path | None = Field(
        None,
        description="A file with the secret that the log is signed by; made where there is none. Better on another "
        "disk than the log. Default: `evidence.key` in state.folder.",
    )
    name: str | None = Field(
        None,
        pattern=r"^[^\s+]{1,200}$",
        description="What the log is called in its heads, like `hospital.example/custodes`. It cannot be changed "
        "later. Default: a name of its own.",
    )
    keep: Duration | None = Field(
        timedelta(days=730),
        description="How long after a finding has ended and was closed by somebody its evidence is kept; `null`: for "
        "ever. What is held (`custodes evidence hold`) stays.",
        json_schema_extra={"default": "730d"},
    )
    anchors: list[Annotated[str, AfterValidator(_known_anchor)]] = Field(
        default_factory=list,
        description="Where heads of the log are told to, once a minute: `file:///…` is appended to, `syslog:`, "
        "`https://…` gets them by POST. Who has them can show what the log was.",
    )


class WorkersSettings(Section):
    """Several processes, on as many machines, that share the partitions and the counting."""

    keyed_by: list[str] = Field(
        default_factory=list,
        description="Fields whose values decide the partition of a record, as the producers key it: rules grouped by "
        "them are counted where they are read. Default: none; all events are repartitioned.",
    )
    partitions: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Into how many shares groups are dealt, when the repartition topic is made; more workers than "
        "this help no more. Default: the partitions of the largest topic. It cannot be changed later.",
    )
    repartition_topic: str = Field(
        "custodes-repartition", description="By which workers hand events on to each other; made if it is not there."
    )
    state_topic: str = Field(
        "custodes-state",
        description="Compacted; keeps the windows, so that they go with their partition. Made if it is not there.",
    )
    state_store: str | None = Field(
        None,
        pattern=r"^(file|s3|gs|az)://",
        description="Keeps the windows instead of the state topic: a directory that all workers reach (file:///…), or "
        "an object store by its URL (s3://bucket/prefix, gs://…, az://…), with credentials from the environment.",
    )


class DeadLetterSettings(Section):
    """Where rejected records go when no dead-letter topic is set."""

    file: Path = Field(Path("custodes-dead-letters.jsonl"), description="JSON Lines, appended to.")


class HttpSettings(Section):
    """The HTTP server: console, API and metrics."""

    listen: Annotated[str, AfterValidator(_listenable)] = Field(
        "127.0.0.1:8610",
        description="HOST:PORT to serve on. Beyond this machine only with accounts: `custodes accounts add`.",
    )
    certificate: Path | None = Field(
        None, description="A file with the certificate and those above it, as PEM: then it serves by TLS alone."
    )
    certificate_key: Path | None = Field(None, description="A file with the certificate's key, as PEM.")
    secret: Path | None = Field(
        None,
        description="A file with the secret of which pseudonyms are made; made where there is none. Workers share one. "
        "Default: `secret.key` in state.folder.",
    )

    requests_per_minute: int = Field(
        1200, ge=1, description="How often one account may ask in a minute, by browser and tokens together."
    )
    sign_ins_per_minute: int = Field(
        30, ge=1, description="How many passwords may be tried in a minute from one address, whoever's they are."
    )
    oidc: OidcSettings | None = Field(
        None, description="Signing in at a provider of OpenID Connect. Default: local accounts only."
    )

    @model_validator(mode="after")
    def _a_certificate_has_its_key(self) -> HttpSettings:
        if (self.certificate is None) != (self.certificate_key is None):
            raise ValueError("certificate and certificate_key go together")
        return self


class EncryptionSettings(Section):
    """What is kept on disks and in the database is encrypted: history, evidence, snapshots, and names."""

    keys: Path = Field(
        description="A file with the keys, which `custodes keys add` makes. The first is for what is written. Workers "
        "have the same. Keep it where the rest is not, and a copy where no disk of this machine is."
    )


class LogSettings(Section):
    """Log lines on standard error."""

    level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least severe level written.")
    format: str = Field("text", pattern="^(text|json)$", description="`text` for people, `json` for collectors.")


class Config(BaseSettings):
    """custodes.yaml. Any key can be overridden from the environment: CUSTODES_HTTP__LISTEN=0.0.0.0:8610."""

    model_config = SettingsConfigDict(
        extra="forbid",
        env_prefix="CUSTODES_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    source: SourceSettings = Field(description="Where events come from.")
    mapping: str = Field("custodes", description="Built-in mapping's name, or a mapping file's path.")
    tables: dict[str, Path | TableTopicSettings] = Field(
        default_factory=dict,
        description="Look-up tables of derived fields, by name: CSV files with a header, read again when they change, "
        "or topics, `{topic: …, columns: […]}`, followed as they change.",
    )
    rules: list[Path] = Field(
        default_factory=list, description="Sigma rule files and directories. Default: the shipped pack."
    )
    event_time: EventTimeSettings = Field(EventTimeSettings(), description="Lateness and sanity of times.")
    engine: EngineSettings = Field(default_factory=EngineSettings, description="The counting engine.")
    max_record_bytes: int = Field(1 << 20, ge=1, le=1 << 30, description="Longest record accepted.")
    findings: FindingsSettings = Field(FindingsSettings(), description="Where findings are kept.")
    state: StateSettings = Field(StateSettings(), description="Snapshots, from which a restart goes on.")
    history: HistorySettings | None = Field(
        HistorySettings(), description="Every event, kept for a while. `null` keeps none: findings have no events then."
    )
    evidence: EvidenceSettings | None = Field(
        EvidenceSettings(),
        description="What is behind findings, for later and for others. `null` keeps none; without a history there is "
        "none.",
    )
    encryption: EncryptionSettings | None = Field(
        None, description="Encryption at rest. Default: files and database have names as they are."
    )
    alerts: Alerts = Field(Alerts(), description="Who else is told of findings.")
    workers: WorkersSettings | None = Field(
        None, description="Share the counting with other processes of the same Kafka group. Default: count alone."
    )
    dead_letter: DeadLetterSettings = Field(DeadLetterSettings(), description="Where rejected records are kept.")
    http: HttpSettings = Field(HttpSettings(), description="Console, API and metrics.")
    log: LogSettings = Field(LogSettings(), description="Log lines.")

    @model_validator(mode="after")
    def _what_is_asked_for_is_there(self) -> Config:
        if self.workers is not None and self.source.kafka is None:
            raise ValueError("workers share the partitions of Kafka topics: set source.kafka, or leave workers out")
        if self.source.kafka is None and any(isinstance(table, TableTopicSettings) for table in self.tables.values()):
            raise ValueError(
                "a look-up table in a topic is read from the brokers of source.kafka: set it, or use a file"
            )
        if self.source.kafka is None and any(isinstance(one, KafkaReceiver) for one in self.alerts.receivers):
            raise ValueError(
                "a receiver of kind kafka is a topic of the brokers of source.kafka: set it, or leave it out"
            )
        if self.workers is not None and self.findings.database.startswith("sqlite"):
            raise ValueError(
                "workers share one database of findings: set findings.database to a PostgreSQL URL like "
                "postgresql+psycopg://custodes@db.example/custodes, or leave workers out"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment overrides the file."""
        return env_settings, init_settings
