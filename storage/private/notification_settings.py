"""Settings of a viewer's notifications, and the marker of those that were seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from storage.postgres.pool import Conn
from storage.private.private_items import MOST, NO_SUBJECT, Kind
from storage.private.private_state import POSTS, REPLIES
from storage.private.sealing import Account

FILTERABLE: Final = (
    "follow",
    "like",
    "likeViaRepost",
    "mention",
    "quote",
    "reply",
    "repost",
    "repostViaRepost",
)
"""Preferences that may be limited to followed accounts."""
PLAIN: Final = ("starterpackJoined", "subscribedPost", "unverified", "verified")
CHAT: Final = {"include": "all", "push": True}
"""The lexicon's field without use: chats have preferences of their own."""
_ALL: Final = "all"
FOLLOWS: Final = "follows"


@dataclass(frozen=True, slots=True)
class ActivitySubscription:
    """The activity of one account that the viewer has subscribed to."""

    did: str
    since: datetime
    post: bool
    reply: bool


@dataclass(frozen=True, slots=True)
class NotificationSettings:
    """Everything about notifications that an account keeps with the provider."""

    seen_at: datetime | None = None
    priority: bool = False
    preferences: Mapping[str, Any] = field(default_factory=dict)
    subscriptions: tuple[ActivitySubscription, ...] = ()

    def shows(self, name: str) -> bool:
        """Return True if notifications of a preference's name are listed."""
        return bool(self._of(name).get("list", True))

    def pushes(self, name: str) -> bool:
        """Return True if notifications of a preference's name are pushed."""
        return bool(self._of(name).get("push", True))

    def only_follows(self, name: str) -> bool:
        """Return True if only followed accounts may notify by this preference."""
        return name in FILTERABLE and self._of(name).get("include") == FOLLOWS

    def _of(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.preferences.get(name, {})
        return found

    def view(self) -> dict[str, Any]:
        """Return the preferences as the lexicon has them, with defaults."""
        filterable = {
            name: {
                "include": FOLLOWS if self.only_follows(name) else _ALL,
                "list": self.shows(name),
                "push": self.pushes(name),
            }
            for name in FILTERABLE
        }
        plain = {
            name: {"list": self.shows(name), "push": self.pushes(name)}
            for name in PLAIN
        }
        return {"chat": CHAT, **filterable, **plain}


_KINDS: Final = (
    Kind.SEEN,
    Kind.PRIORITY,
    Kind.NOTIFICATION_PREFERENCES,
    Kind.ACTIVITY_SUBSCRIPTION,
)


def load_settings(conn: Conn, account: Account) -> NotificationSettings:
    """Return the settings of an account, in one query."""
    rows = conn.execute(
        "SELECT kind, subject, sealed, at, flags FROM private_item"
        " WHERE account = %s AND kind = ANY(%s) LIMIT %s",
        (account.id, [*_KINDS], sum(MOST[kind] for kind in _KINDS)),
    ).fetchall()
    seen_at = None
    priority = False
    preferences: Mapping[str, Any] = {}
    subscriptions: list[ActivitySubscription] = []
    for kind, subject, sealed, at, flags in rows:
        if kind == Kind.SEEN:
            seen_at = at
        elif kind == Kind.PRIORITY:
            priority = flags == 1
        elif kind == Kind.NOTIFICATION_PREFERENCES:
            preferences = account.open(kind, subject, sealed)
        else:
            did = account.open(kind, subject, sealed)["subject"]
            post, reply = bool(flags & POSTS), bool(flags & REPLIES)
            subscriptions.append(ActivitySubscription(did, at, post, reply))
    return NotificationSettings(seen_at, priority, preferences, tuple(subscriptions))


def save_seen(conn: Conn, account: Account, seen_at: datetime) -> None:
    """Move the seen marker forward, never back."""
    subject = account.subject(NO_SUBJECT)
    conn.execute(
        "INSERT INTO private_item (account, kind, subject, flags, at, sealed)"
        " VALUES (%s, %s, %s, 0, %s, %s) ON CONFLICT (account, kind, subject)"
        " DO UPDATE SET at = greatest(private_item.at, excluded.at)",
        (
            account.id,
            Kind.SEEN,
            subject,
            seen_at,
            account.seal(Kind.SEEN, subject, {}),
        ),
    )
