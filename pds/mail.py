"""Mail of this server: to an SMTP server, or as files in a folder."""

from __future__ import annotations

import os
import secrets
import smtplib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.errors import HeaderParseError
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from network.errors import XrpcError
from pds.exceptions import InvalidRequestError, UpstreamFailureError
from pds.work_queue import WorkQueue

_AT_ONCE: Final = 2
_MAX_WAITING: Final = 32
_SMTP_SECONDS: Final = 20.0
_KEPT_FILES: Final = 1_000
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail of plain text."""

    to: str
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class MailSettings:
    """The way of mails, and their sender.

    `smtp_url` is `smtps://user:password@host:port`, or `smtp://…` with STARTTLS, which
    a server on loopback does not need. Without one, mails are files in `folder`.
    """

    sender: str
    smtp_url: str | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.smtp_url is None:
            return
        parts = urlsplit(self.smtp_url)
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            # Never shown in full: it has a password.
            raise ValueError("smtp_url must be smtp://host:port or smtps://host:port")


class Mailer:
    """The sender of a server's mails; without settings it sends none."""

    def __init__(
        self, settings: MailSettings | None, now: Callable[[], datetime]
    ) -> None:
        self._settings = settings
        self._now = now
        self._queue = WorkQueue(_AT_ONCE, _MAX_WAITING, "too many mails are being sent")

    @property
    def can_send(self) -> bool:
        """Return True if the server sends mail."""
        settings = self._settings
        return settings is not None and bool(settings.smtp_url or settings.folder)

    def require(self) -> MailSettings:
        """Return the settings. Raises InvalidRequestError without any."""
        if self._settings is None or not self.can_send:
            raise InvalidRequestError("this server sends no mail")
        return self._settings

    async def send(self, mail: Mail) -> None:
        """Send a mail. Raises UpstreamFailureError if it was not accepted."""
        settings = self.require()
        try:
            message = self._compose(settings, mail)
            await self._queue.run(_deliver, settings, message)
        except XrpcError:
            raise
        except (OSError, smtplib.SMTPException, ValueError, HeaderParseError) as error:
            name = type(error).__name__
            raise UpstreamFailureError(f"the mail was not accepted: {name}") from error

    def _compose(self, settings: MailSettings, mail: Mail) -> EmailMessage:
        message = EmailMessage()
        message["From"] = settings.sender
        message["To"] = mail.to
        message["Subject"] = mail.subject
        message["Date"] = format_datetime(self._now())
        message["Message-ID"] = make_msgid(domain=settings.sender.rpartition("@")[2])
        message.set_content(mail.text)
        return message


def _deliver(settings: MailSettings, message: EmailMessage) -> None:
    if settings.smtp_url is not None:
        _send_by_smtp(settings.smtp_url, message)
    elif settings.folder is not None:
        _write_file(settings.folder, message)


def _send_by_smtp(url: str, message: EmailMessage) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    context = ssl.create_default_context()
    client: smtplib.SMTP
    if parts.scheme == "smtps":
        client = smtplib.SMTP_SSL(
            host, parts.port or 465, timeout=_SMTP_SECONDS, context=context
        )
    else:
        client = smtplib.SMTP(host, parts.port or 587, timeout=_SMTP_SECONDS)
    with client:
        if parts.scheme == "smtp" and host not in _LOOPBACK:
            client.starttls(context=context)
        if parts.username:
            client.login(unquote(parts.username), unquote(parts.password or ""))
        client.send_message(message)


def _write_file(folder: Path, message: EmailMessage) -> None:
    """Write one .eml file; only the newest thousand are kept."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f".{time.time_ns()}-{secrets.token_hex(4)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(bytes(message))
    draft.rename(folder / f"{draft.name[1:]}.eml")
    for old in sorted(folder.glob("*.eml"))[:-_KEPT_FILES]:
        old.unlink(missing_ok=True)
