"""The kinds of receivers, and how each is served."""

from __future__ import annotations

import smtplib
import ssl
import time
from base64 import b64decode
from binascii import Error as NotBase64Error
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from kafka import KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError

from custodes.alerts import formats
from custodes.alerts.http_client import DeliveryRejectedError, HttpClient
from custodes.alerts.message import Message
from custodes.config.alerts import (
    EmailReceiver,
    KafkaReceiver,
    PagerDutyReceiver,
    SlackReceiver,
    TeamsReceiver,
    WebhookReceiver,
)
from custodes.config.model import KafkaSourceSettings
from custodes.sources.client import client
from custodes.sources.connections import end_producer

_TIMEOUT_SECONDS = 10.0


class MessageSender(Protocol):
    """Delivers messages, one at a time."""

    def send(self, message: Message) -> None:
        """Returns once the receiver accepted the message.

        Raises :class:`~custodes.alerts.http_client.DeliveryRejectedError` for a permanent error, and ``OSError`` for
        one worth a retry.
        """

    def close(self) -> None: ...


class WebSender:
    """Posts a message in a format; skips messages that the format does not represent."""

    def __init__(self, url: str, write: Callable[[Message], formats.EncodedMessage | None]) -> None:
        """Raises ``ValueError`` for an invalid URL."""
        self._web = HttpClient(url)
        self._write = write

    def send(self, message: Message) -> None:
        if (sent := self._write(message)) is not None:
            body, headers = sent
            self._web.post(body, headers)

    def close(self) -> None:
        self._web.close()


class MailSender:
    """Sends mails by SMTP, with one connection per mail."""

    def __init__(self, settings: EmailReceiver) -> None:
        """Raises ``OSError`` if the password file cannot be read."""
        self._settings = settings
        self._password = None if settings.password is None else settings.password.read_text().strip()

    def send(self, message: Message) -> None:
        settings = self._settings
        host, _, port = settings.server.rpartition(":")
        mail = formats.email(message, settings.sender, settings.to)
        try:
            with smtplib.SMTP(host, int(port), timeout=_TIMEOUT_SECONDS) as server:
                if settings.starttls:
                    server.starttls(context=ssl.create_default_context())
                if settings.user is not None:
                    server.login(settings.user, self._password or "")
                server.send_message(mail)
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError, smtplib.SMTPSenderRefused) as error:
            if _is_for_good(error):
                raise DeliveryRejectedError(f"{settings.server}: {error}") from error
            raise OSError(f"{settings.server}: {error}") from error
        except smtplib.SMTPException as error:
            raise OSError(f"{settings.server}: {error}") from error

    def close(self) -> None:
        """Does nothing: no connection stays open."""


def _is_for_good(error: smtplib.SMTPException) -> bool:
    """Returns whether a mail server's error is permanent: 5xx for all recipients."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    return isinstance(error, smtplib.SMTPResponseException) and error.smtp_code >= 500


class KafkaSender:
    """Writes OCSF Detection Findings to a topic; all messages about one finding go to one partition."""

    def __init__(self, settings: KafkaReceiver, kafka: KafkaSourceSettings) -> None:
        self._topic = settings.topic
        self._kafka = kafka
        self._producer: KafkaProducer | None = None

    def send(self, message: Message) -> None:
        try:
            if self._producer is None:
                self._producer = client(KafkaProducer, self._kafka, acks="all", enable_idempotence=True)
            key = message.finding.id.encode()
            self._producer.send(self._topic, formats.ocsf(message), key=key).get(_TIMEOUT_SECONDS)
        except MessageSizeTooLargeError as error:
            raise DeliveryRejectedError(str(error)) from error
        except KafkaError as error:
            # Discards the producer: a new one does not remember unacknowledged records, which are sent again.
            self.close()
            raise OSError(f"{self._topic}: {error}") from error

    def close(self) -> None:
        if self._producer is not None:
            with suppress(KafkaError):
                end_producer(self._producer)
            self._producer = None


QueueSettings = WebhookReceiver | SlackReceiver | TeamsReceiver | PagerDutyReceiver | EmailReceiver | KafkaReceiver


def sender_of(settings: QueueSettings, kafka: KafkaSourceSettings | None) -> MessageSender:
    """Returns the sender of a receiver. Raises ``OSError`` and ``ValueError`` for unusable secrets."""
    match settings:
        case WebhookReceiver():
            secret = None if settings.secret is None else _signing_secret(settings.secret.read_text())
            return WebSender(settings.url, lambda message: formats.webhook(message, secret, int(time.time())))
        case SlackReceiver():
            return WebSender(settings.url_file.read_text().strip(), formats.slack)
        case TeamsReceiver():
            return WebSender(settings.url_file.read_text().strip(), formats.teams)
        case PagerDutyReceiver():
            key = settings.key_file.read_text().strip()
            return WebSender(settings.url, lambda message: formats.pagerduty(message, key, settings.until))
        case EmailReceiver():
            return MailSender(settings)
        case KafkaReceiver():
            if kafka is None:
                raise ValueError("a receiver of kind kafka writes to the brokers of source.kafka: set source.kafka")
            return KafkaSender(settings, kafka)


def _signing_secret(text: str) -> bytes:
    """Returns the secret in a file, in the form of Standard Webhooks. Raises ``ValueError``."""
    try:
        secret = b64decode(text.strip().removeprefix("whsec_"), validate=True)
    except NotBase64Error as error:
        raise ValueError("the secret of a webhook must be base64 with the prefix whsec_") from error
    if len(secret) < 24:
        raise ValueError(f"the secret of a webhook must have at least 24 bytes, this one has {len(secret)}")
    return secret
