"""The configuration of alerts: receivers, and what each may know."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from custodes.config.section import Duration, Section

Level = Literal["informational", "low", "medium", "high", "critical"]
Until = Literal["ended", "judged"]
_Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+")]


class _ReceiverSettings(Section):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="What it is called in logs and metrics.")
    level: Level = Field("medium", description="The least severe findings it is told of.")
    names: bool = Field(
        False,
        description="Whether it may know who people are. Otherwise it has pseudonyms, the same as in the console.",
    )


class _QueuedReceiver(_ReceiverSettings):
    give_up_after: Duration = Field(
        timedelta(days=3),
        description="How long an alert is tried before it is put aside (`custodes alerts undelivered`).",
        json_schema_extra={"default": "3d"},
    )


class AlertmanagerReceiver(_ReceiverSettings):
    """Alertmanager, by its API v2. All members of a cluster are told."""

    kind: Literal["alertmanager"]
    urls: list[_Url] = Field(min_length=1, description="Where the members are, e.g. http://alertmanager:9093.")
    until: Until = Field(
        "ended",
        description="An alert fires until its finding has `ended` or was closed, or only until it was `judged`.",
    )
    least_firing: Duration = Field(
        timedelta(minutes=5),
        description="How long an alert fires at least: longer than Alertmanager's group_wait.",
        json_schema_extra={"default": "5m"},
    )
    resend: Duration = Field(
        timedelta(minutes=1),
        description="How often it is told what still fires. What it does not hear of four times is over for it.",
        json_schema_extra={"default": "1m"},
    )


class WebhookReceiver(_QueuedReceiver):
    """A URL that gets every opening, ending and judgement as JSON, signed as Standard Webhooks says."""

    kind: Literal["webhook"]
    url: _Url = Field(description="Where it is posted.")
    secret: Path | None = Field(
        None, description="A file with the secret it is signed with: `whsec_` and at least 24 bytes in base64."
    )


class SlackReceiver(_QueuedReceiver):
    """A channel of Slack, or of what takes its incoming webhooks."""

    kind: Literal["slack"]
    url_file: Path = Field(description="A file with the URL of the incoming webhook: it is a secret.")


class TeamsReceiver(_QueuedReceiver):
    """A channel of Microsoft Teams, by a workflow that takes Adaptive Cards."""

    kind: Literal["teams"]
    url_file: Path = Field(description="A file with the URL of the workflow: it is a secret.")


class PagerDutyReceiver(_QueuedReceiver):
    """A service of PagerDuty, by its Events API v2. A finding is an incident."""

    kind: Literal["pagerduty"]
    key_file: Path = Field(description="A file with the integration key.")
    url: _Url = Field("https://events.pagerduty.com/v2/enqueue", description="The API, or what understands the same.")
    until: Until = Field("judged", description="What resolves an incident: that its finding `ended`, or was `judged`.")


class EmailReceiver(_QueuedReceiver):
    """Mail, by SMTP."""

    kind: Literal["email"]
    server: str = Field(pattern=r"^\S+:\d{1,5}$", description="HOST:PORT of the mail server.")
    sender: str = Field(pattern=r"^[^\s@]+@[^\s@]+$", description="From whom.")
    to: list[Annotated[str, Field(pattern=r"^[^\s@,]+@[^\s@,]+$")]] = Field(min_length=1, description="To whom.")
    starttls: bool = Field(True, description="Whether the connection must be encrypted before anything is said.")
    user: str | None = Field(None, description="Who signs in there.")
    password: Path | None = Field(None, description="A file with the password.")


class KafkaReceiver(_QueuedReceiver):
    """A topic of the brokers of `source.kafka`: OCSF Detection Findings (class 2004), keyed by finding."""

    kind: Literal["kafka"]
    topic: str = Field(description="The topic.")


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
    """Who else is told of findings."""

    console: _Url | None = Field(
        None, description="Where the console is reached, e.g. https://custodes.example: alerts lead to their finding."
    )
    receivers: list[Receiver] = Field(default_factory=list, description="Each with a `kind`.")

    @field_validator("receivers")
    @classmethod
    def _names_are_distinct(cls, receivers: list[Receiver]) -> list[Receiver]:
        names = [one.name for one in receivers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two receivers are called {', '.join(twice)}")
        return receivers
