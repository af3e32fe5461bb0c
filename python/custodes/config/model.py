"""The shape of the configuration. Field descriptions are the reference documentation."""

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
from custodes.config.kafka_sign_in import KafkaSignInSettings
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
        raise ValueError(f"'{zone}' is not a known time zone; use an IANA name such as Europe/Berlin or UTC")
    return zone


class KafkaSourceSettings(Section):
    """Events from Kafka topics, read by a consumer group."""

    bootstrap_servers: list[str] = Field(min_length=1, description="Brokers to start from, as host:port.")
    topics: list[str] = Field(min_length=1, description="Topics that carry access events.")
    group_id: str = Field("custodes", description="Consumer group; processes in one group share the partitions.")
    dead_letter_topic: str | None = Field(
        None,
        description="Topic for rejected records, with their offset and reason. Default: dead_letter.file.",
    )
    max_poll_records: int = Field(
        20_000,
        ge=1,
        description="Most fetches handled in one poll; most records for topics that are decoded one by one.",
    )
    client: dict[str, Any] = Field(
        default_factory=dict,
        description="Further kafka-python settings for consumer and producer, e.g. security_protocol.",
    )
    sign_in: KafkaSignInSettings | None = Field(
        None,
        description="Sign-in to the brokers with secrets from files. Default: the `sasl_…` settings in client, if any.",
    )

    @model_validator(mode="after")
    def _signs_in_in_one_way(self) -> KafkaSourceSettings:
        if self.sign_in is None:
            return self
        if sasl := sorted(name for name in self.client if str(name).startswith("sasl_")):
            raise ValueError(f"sign_in replaces {', '.join(f'client.{name}' for name in sasl)}: remove one of them")
        protocol = self.client.get("security_protocol", "SASL_SSL")
        if protocol not in {"SASL_SSL", "SASL_PLAINTEXT"}:
            raise ValueError(f"client.security_protocol is {protocol}, not SASL_SSL or SASL_PLAINTEXT as sign_in needs")
        return self


class TableTopicSettings(Section):
    """A look-up table in a compacted topic of ``source.kafka``: each record is a row, a JSON object by column."""

    topic: str = Field(
        description="Compacted topic. The key of a record identifies its row; a record without a value deletes the row."
    )
    columns: list[str] = Field(min_length=1, description="Column names, key columns first, as in the header of a file.")


class FileSourceSettings(Section):
    """Events from JSON Lines files, plain, .gz or .zst; `-` is standard input."""

    paths: list[Path] = Field(min_length=1, description="Files to read, together in the order of event time.")


class SourceSettings(Section):
    """Source of events: exactly one of these."""

    kafka: KafkaSourceSettings | None = Field(None, description="Read from Kafka.")
    file: FileSourceSettings | None = Field(None, description="Read from files.")

    @model_validator(mode="after")
    def _exactly_one(self) -> SourceSettings:
        if (self.kafka is None) == (self.file is None):
            raise ValueError("must have exactly one of kafka, file")
        return self


class EventTimeSettings(Section):
    """Event time: lateness, limits and time zone."""

    allowed_lateness: Duration = Field(
        timedelta(seconds=10),
        description="Disorder up to which counts are exact: an event may arrive this much behind the newest event "
        "time.",
        json_schema_extra={"default": "10s"},
    )
    max_future_skew: Duration = Field(
        timedelta(minutes=10),
        description="Events further ahead of the clock than this are rejected.",
        json_schema_extra={"default": "10m"},
    )
    earliest: date = Field(date(2000, 1, 1), description="Events before this day are rejected.")
    zone: Annotated[str, AfterValidator(_known_zone)] = Field(
        "UTC", description="Time zone of the hours and days in rules, e.g. Asia/Shanghai."
    )
    idle_after: Duration = Field(
        timedelta(seconds=10),
        description="A partition without records for this long no longer holds back the watermark.",
        json_schema_extra={"default": "10s"},
    )


class EngineSettings(Section):
    """Threads and memory of the engine."""

    threads: int = Field(
        default_factory=usable_cores,
        ge=1,
        le=MOST_THREADS,
        description="Number of engine threads; it does not change any finding.",
        json_schema_extra={"default": "number of cores, at most 4"},
    )
    memory: ByteSize = Field(
        default_factory=lambda: ByteSize(half_of_memory()),
        ge=1 << 20,
        description="Limit of the memory for window state, e.g. 4GiB. Beyond it, the groups idle for longest are "
        "evicted, never a group with a finding or near a threshold.",
        json_schema_extra={"default": "half of the memory available to the process"},
    )


class FindingsSettings(Section):
    """Storage of findings."""

    database: str = Field("sqlite:///custodes.db", description="SQLAlchemy URL of the findings database.")
    most_open: int = Field(
        10_000,
        ge=1,
        description="Approximate limit of open findings per rule. Beyond it, only groups at twice the threshold open "
        "findings, up to the same number again, then groups at four times the threshold, and so on; all other "
        "groups are counted.",
    )


class StateSettings(Section):
    """Snapshots of window state, which a restart restores."""

    folder: Path = Field(
        Path("custodes-state"),
        description="Folder for snapshots, used by this process only. Snapshots contain names: protect the folder "
        "accordingly.",
    )
    interval: Duration = Field(
        timedelta(seconds=30),
        description="Time between snapshots. A restart replays the events since the last snapshot.",
        json_schema_extra={"default": "30s"},
    )
    keep: int = Field(3, ge=1, description="Number of snapshots kept, in case the newest is unreadable.")


class HistorySettings(Section):
    """History: every event for a limited time, to show the events of a finding and other activity of an actor."""

    folder: Path = Field(
        Path("custodes-history"),
        description="Folder for Parquet files, used by this process only. The files contain the events: protect the "
        "folder accordingly.",
    )
    keep: Duration = Field(
        timedelta(days=35),
        description="Age, relative to the newest event, at which events are deleted: longer than the longest window.",
        json_schema_extra={"default": "35d"},
    )


def _known_anchor(where: str) -> str:
    if not where.startswith(("file:///", "syslog:", "https://", "http://")):
        raise ValueError(f"'{where}' is not an anchor; use file:///…, syslog: or https://…")
    return where


class EvidenceSettings(Section):
    """Evidence: the events of findings, in a log in which any later change is detectable."""

    folder: Path = Field(
        Path("custodes-evidence"),
        description="Folder for the evidence log, used by this process only. The log contains names: protect it like "
        "the history.",
    )
    key: Path | None = Field(
        None,
        description="File with the secret key that signs the log; created if missing. Keep it on another disk than "
        "the log. Default: `evidence.key` in state.folder.",
    )
    name: str | None = Field(
        None,
        pattern=r"^[^\s+]{1,200}$",
        description="Name of the log in its heads, e.g. `hospital.example/custodes`. It cannot be changed later. "
        "Default: a generated name.",
    )
    keep: Duration | None = Field(
        timedelta(days=730),
        description="Time that evidence is kept after its finding ended and was closed; `null` keeps it forever. "
        "Evidence on hold (`custodes evidence hold`) is never deleted.",
        json_schema_extra={"default": "730d"},
    )
    anchors: list[Annotated[str, AfterValidator(_known_anchor)]] = Field(
        default_factory=list,
        description="Places to which heads of the log are published once a minute: `file:///…` (appended), `syslog:`, "
        "`https://…` (by POST). A published head proves the content of the log at that time.",
    )


class WorkersSettings(Section):
    """Workers: several processes, on one or more machines, that share partitions and counting."""

    keyed_by: list[str] = Field(
        default_factory=list,
        description="Fields by which the producers key records: rules grouped by them are counted by the worker that "
        "reads the partition. Default: none; all events are repartitioned.",
    )
    partitions: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Number of partitions of the repartition topic when it is created, and largest useful number of "
        "workers. Default: the partitions of the largest topic. It cannot be changed later.",
    )
    repartition_topic: str = Field(
        "custodes-repartition", description="Topic through which workers exchange events; created if missing."
    )
    state_topic: str = Field(
        "custodes-state",
        description="Compacted topic for window state, which follows its partition to the next worker; created if "
        "missing.",
    )
    state_store: str | None = Field(
        None,
        pattern=r"^(file|s3|gs|az)://",
        description="Store for window state in place of the state topic: a shared directory (file:///…) or an object "
        "store (s3://bucket/prefix, gs://…, az://…) with credentials from the environment.",
    )


class DeadLetterSettings(Section):
    """Storage of rejected records if no dead-letter topic is set."""

    file: Path = Field(Path("custodes-dead-letters.jsonl"), description="JSON Lines file, appended to.")


class HttpSettings(Section):
    """The HTTP server: console, API and metrics."""

    listen: Annotated[str, AfterValidator(_listenable)] = Field(
        "127.0.0.1:8610",
        description="HOST:PORT to serve on. Addresses beyond this machine need accounts: `custodes accounts add`.",
    )
    certificate: Path | None = Field(
        None, description="PEM file with the certificate and its chain; with it, only TLS is served."
    )
    certificate_key: Path | None = Field(None, description="PEM file with the key of the certificate.")
    secret: Path | None = Field(
        None,
        description="File with the secret key for pseudonyms; created if missing. All workers use the same. Default: "
        "`secret.key` in state.folder.",
    )

    requests_per_minute: int = Field(
        1200, ge=1, description="Requests per minute and account, browser and tokens together."
    )
    sign_ins_per_minute: int = Field(
        30, ge=1, description="Sign-in attempts per minute and address, over all accounts."
    )
    oidc: OidcSettings | None = Field(
        None, description="Sign-in through an OpenID Connect provider. Default: local accounts only."
    )

    @model_validator(mode="after")
    def _a_certificate_has_its_key(self) -> HttpSettings:
        if (self.certificate is None) != (self.certificate_key is None):
            raise ValueError("certificate and certificate_key must be set together")
        return self


class EncryptionSettings(Section):
    """Encryption at rest of history, evidence, snapshots, and names in the database."""

    keys: Path = Field(
        description="File with the keys, created by `custodes keys add`. The first key encrypts new data. All workers "
        "use the same file. Keep it apart from the data, and a copy outside this machine."
    )


class LogSettings(Section):
    """Log lines on standard error."""

    level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least severe level that is logged.")
    format: str = Field("text", pattern="^(text|json)$", description="`text` for people, `json` for log collectors.")


class Config(BaseSettings):
    """custodes.yaml. Any key can be overridden from the environment: CUSTODES_HTTP__LISTEN=0.0.0.0:8610."""

    model_config = SettingsConfigDict(
        extra="forbid",
        env_prefix="CUSTODES_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    source: SourceSettings = Field(description="Source of events.")
    mapping: str = Field("custodes", description="Name of a built-in mapping, or path of a mapping file.")
    tables: dict[str, Path | TableTopicSettings] = Field(
        default_factory=dict,
        description="Look-up tables for derived fields, by name: CSV files with a header, reloaded when they change, "
        "or compacted topics, `{topic: …, columns: […]}`, followed continuously.",
    )
    rules: list[Path] = Field(
        default_factory=list, description="Sigma rule files and directories. Default: the shipped pack."
    )
    event_time: EventTimeSettings = Field(
        EventTimeSettings(), description="Lateness, limits and time zone of event times."
    )
    engine: EngineSettings = Field(default_factory=EngineSettings, description="Threads and memory of the engine.")
    max_record_bytes: int = Field(16 << 20, ge=1, le=1 << 30, description="Longest accepted record, in bytes.")
    findings: FindingsSettings = Field(FindingsSettings(), description="Storage of findings.")
    state: StateSettings = Field(StateSettings(), description="Snapshots of window state, which a restart restores.")
    history: HistorySettings | None = Field(
        HistorySettings(),
        description="History of all events for a limited time. `null` disables it: findings then have no events.",
    )
    evidence: EvidenceSettings | None = Field(
        EvidenceSettings(),
        description="Evidence log of the events of findings. `null` disables it; it needs the history.",
    )
    encryption: EncryptionSettings | None = Field(
        None, description="Encryption at rest. Default: files and database contain names in plain text."
    )
    alerts: Alerts = Field(Alerts(), description="Receivers of alerts about findings.")
    workers: WorkersSettings | None = Field(
        None,
        description="Share the counting with other processes in the same consumer group. Default: one process counts "
        "alone.",
    )
    dead_letter: DeadLetterSettings = Field(DeadLetterSettings(), description="Storage of rejected records.")
    http: HttpSettings = Field(HttpSettings(), description="Console, API and metrics.")
    log: LogSettings = Field(LogSettings(), description="Log lines.")

    @model_validator(mode="after")
    def _sections_fit_together(self) -> Config:
        if self.workers is not None and self.source.kafka is None:
            raise ValueError("workers share the partitions of Kafka topics: set source.kafka, or remove workers")
        if self.source.kafka is None and any(isinstance(table, TableTopicSettings) for table in self.tables.values()):
            raise ValueError(
                "a look-up table in a topic is read from the brokers of source.kafka: set source.kafka, or use a file"
            )
        if self.source.kafka is None and any(isinstance(one, KafkaReceiver) for one in self.alerts.receivers):
            raise ValueError(
                "a receiver of kind kafka writes to the brokers of source.kafka: set source.kafka, or remove the "
                "receiver"
            )
        if self.workers is not None and self.findings.database.startswith("sqlite"):
            raise ValueError(
                "workers share one findings database: set findings.database to a PostgreSQL URL such as "
                "postgresql+psycopg://custodes@db.example/custodes, or remove workers"
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
        """Returns the sources of settings: the environment overrides the file."""
        return env_settings, init_settings
