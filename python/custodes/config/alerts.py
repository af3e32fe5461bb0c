"""Configuration of alerts: receivers, and the data each may receive."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from custodes.config.section import Duration, Section

FindingLevel = Literal["informational", "low", "medium", "high", "critical"]
Until = Literal["ended", "judged"]
_Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+")]


class _ReceiverSettings(Section):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Name of the receiver in logs and metrics.")
    level: FindingLevel = Field("medium", description="Least severe level of findings that are sent.")
    names: bool = Field(
        False,
        description="Whether names are sent. Otherwise the receiver gets pseudonyms, the same as in the console.",
    )


class _QueuedReceiver(_ReceiverSettings):
    give_up_after: Duration = Field(
        timedelta(days=3),
        description="Time after which an undelivered alert is set aside (`custodes alerts undelivered`).",
        json_schema_extra={"default": "3d"},
    )


class AlertmanagerReceiver(_ReceiverSettings):
    """Alertmanager, by its API v2. Alerts are sent to all members of a cluster."""

    kind: Literal["alertmanager"]
    urls: list[_Url] = Field(min_length=1, description="URLs of the members, e.g. http://alertmanager:9093.")
    until: Until = Field(
        "ended",
        description="An alert fires until its finding has `ended` or was closed, or only until it was `judged`.",
    )
    least_firing: Duration = Field(
        timedelta(minutes=5),
        description="Shortest time an alert fires: longer than Alertmanager's group_wait.",
        json_schema_extra={"default": "5m"},
    )
    resend: Duration = Field(
        timedelta(minutes=1),
        description="Interval at which firing alerts are re-sent. Alertmanager resolves an alert after four missed "
        "re-sends.",
        json_schema_extra={"default": "1m"},
    )


class WebhookReceiver(_QueuedReceiver):
    """A URL that receives every opening, end and verdict as JSON, signed according to Standard Webhooks."""

    kind: Literal["webhook"]
    url: _Url = Field(description="URL for the POST requests.")
    secret: Path | None = Field(
        None, description="File with the signing secret: `whsec_` followed by at least 24 bytes in base64."
    )


class SlackReceiver(_QueuedReceiver):
    """A channel of Slack, or of a service that accepts Slack's incoming webhooks."""

    kind: Literal["slack"]
    url_file: Path = Field(description="File with the URL of the incoming webhook, which is a secret.")


class TeamsReceiver(_QueuedReceiver):
    """A channel of Microsoft Teams, by a workflow that accepts Adaptive Cards."""

    kind: Literal["teams"]
    url_file: Path = Field(description="File with the URL of the workflow, which is a secret.")


class PagerDutyReceiver(_QueuedReceiver):
    """A service of PagerDuty, by its Events API v2. Each finding is one incident."""

    kind: Literal["pagerduty"]
    key_file: Path = Field(description="File with the integration key.")
    url: _Url = Field(
        "https://events.pagerduty.com/v2/enqueue", description="URL of the API, or of a compatible service."
    )
    until: Until = Field("judged", description="An incident is resolved when its finding has `ended` or was `judged`.")


class EmailReceiver(_QueuedReceiver):
    """Mail, by SMTP."""

    kind: Literal["email"]
    server: str = Field(pattern=r"^\S+:\d{1,5}$", description="HOST:PORT of the mail server.")
    sender: str = Field(pattern=r"^[^\s@]+@[^\s@]+$", description="Address of the sender.")
    to: list[Annotated[str, Field(pattern=r"^[^\s@,]+@[^\s@,]+$")]] = Field(
        min_length=1, description="Addresses of the recipients."
    )
    starttls: bool = Field(True, description="Whether STARTTLS is required before any mail is sent.")
    user: str | None = Field(None, description="User name for the mail server.")
    password: Path | None = Field(None, description="File with the password.")


class KafkaReceiver(_QueuedReceiver):
    """A topic of the brokers of `source.kafka`: OCSF Detection Findings (class 2004), keyed by finding."""

    kind: Literal["kafka"]
    topic: str = Field(description="Topic for the findings.")


Receiver = Annotated[
    AlertmanagerReceiver
    | WebhookReceiver
    | SlackReceiver
    | TeamsReceiver
    | PagerDutyReceiver
    | EmailReceiver
    | KafkaReceiver,
    Field(discriminator="kind"),
]


class Alerts(Section):
    """Receivers of alerts about findings."""

    console: _Url | None = Field(
        None, description="URL of the console, e.g. https://custodes.example: alerts link to their finding."
    )
    receivers: list[Receiver] = Field(default_factory=list, description="Receivers, each with a `kind`.")

    @field_validator("receivers")
    @classmethod
    def _names_are_distinct(cls, receivers: list[Receiver]) -> list[Receiver]:
        names = [one.name for one in receivers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"several receivers have the name {', '.join(twice)}; names must be unique")
        return receivers
