"""Private items of accounts: one table for mutes, bookmarks, drafts and settings.

An item is found by its account, its kind and the keyed hash of its subject. All the
rest of it is encrypted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Final

from storage.postgres.fetch import fetch_int
from storage.postgres.pool import Conn
from storage.private.sealing import Account

NO_SUBJECT: Final = ""
"""Subject of the only item of a kind, such as preferences."""
_MAX_ITEM_BYTES: Final = 200_000
_MAX_KIND_BYTES: Final = 20_000_000


class Kind(IntEnum):
    """A kind of private item. The numbers are stored."""

    MUTE = 1
    LIST_MUTE = 2
    THREAD_MUTE = 3
    BOOKMARK = 4
    DRAFT = 5
    PREFERENCES = 6
    NOTIFICATION_PREFERENCES = 7
    PRIORITY = 8
    SEEN = 9
    ACTIVITY_SUBSCRIPTION = 10
    PUSH = 11
    PUSHED = 12
    FEED_SEEN = 13
    FEED_REQUEST = 14


MOST: Final[dict[Kind, int]] = {
    Kind.MUTE: 10_000,
    Kind.LIST_MUTE: 500,
    Kind.THREAD_MUTE: 10_000,
    Kind.BOOKMARK: 10_000,
    Kind.DRAFT: 500,
    Kind.PREFERENCES: 1,
    Kind.NOTIFICATION_PREFERENCES: 1,
    Kind.PRIORITY: 1,
    Kind.SEEN: 1,
    Kind.ACTIVITY_SUBSCRIPTION: 500,
    Kind.PUSH: 20,
    Kind.PUSHED: 1,
    Kind.FEED_SEEN: 3_000,
    Kind.FEED_REQUEST: 500,
}
"""Items of a kind that one account may have. Most kinds are read for each answer."""


class TooManyItemsError(Exception):
    """The account has as many items of a kind, or bytes, as it may have."""


@dataclass(frozen=True, slots=True)
class Item:
    """A private item. `flags` and `at` are readable without the key."""

    kind: Kind
    subject: int
    value: Any
    at: datetime
    flags: int = 0


def save_item(
    conn: Conn,
    account: Account,
    kind: Kind,
    subject: str,
    value: Any,
    now: datetime,
    *,
    flags: int = 0,
    keep_time: bool = True,
) -> None:
    """Store an item, or replace the one with this subject.

    A replaced item keeps its time by default. Raises TooManyItemsError.
    """
    number = account.subject(subject)
    sealed = account.seal(kind, number, value)
    if len(sealed) > _MAX_ITEM_BYTES:
        raise TooManyItemsError(f"at most {_MAX_ITEM_BYTES} bytes can be stored")
    key = (account.id, kind, number)
    time = "at" if keep_time else "%(now)s"
    updated = conn.execute(
        f"UPDATE private_item SET sealed = %(sealed)s, flags = %(flags)s, at = {time}"
        " WHERE account = %(account)s AND kind = %(kind)s AND subject = %(subject)s",
        {
            "sealed": sealed,
            "flags": flags,
            "now": now,
            "account": account.id,
            "kind": kind,
            "subject": number,
        },
    ).rowcount
    if updated:
        return
    row = conn.execute(
        "SELECT count(*), coalesce(sum(octet_length(sealed)), 0) FROM private_item"
        " WHERE account = %s AND kind = %s",
        (account.id, kind),
    ).fetchone()
    count, size = row or (0, 0)
    if count >= MOST[kind]:
        raise TooManyItemsError(f"at most {MOST[kind]} {_NAMES[kind]} can be stored")
    if size + len(sealed) > _MAX_KIND_BYTES:
        raise TooManyItemsError(f"the {_NAMES[kind]} are too large together")
    conn.execute(
        "INSERT INTO private_item (account, kind, subject, flags, at, sealed)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (account, kind, subject)"
        " DO UPDATE SET sealed = excluded.sealed, flags = excluded.flags",
        (*key, flags, now, sealed),
    )


_NAMES: Final[dict[Kind, str]] = {
    Kind.MUTE: "mutes",
    Kind.LIST_MUTE: "muted lists",
    Kind.THREAD_MUTE: "muted threads",
    Kind.BOOKMARK: "bookmarks",
    Kind.DRAFT: "drafts",
    Kind.PREFERENCES: "preferences",
    Kind.NOTIFICATION_PREFERENCES: "notification preferences",
    Kind.PRIORITY: "notification priority",
    Kind.SEEN: "seen markers",
    Kind.ACTIVITY_SUBSCRIPTION: "activity subscriptions",
    Kind.PUSH: "push registrations",
    Kind.PUSHED: "positions of pushes",
    Kind.FEED_SEEN: "posts seen in feeds",
    Kind.FEED_REQUEST: "requests to feeds",
}


def delete_item(conn: Conn, account: Account, kind: Kind, subject: str) -> bool:
    """Remove an item; return True if there was one."""
    gone = conn.execute(
        "DELETE FROM private_item WHERE account = %s AND kind = %s AND subject = %s",
        (account.id, kind, account.subject(subject)),
    ).rowcount
    return gone > 0


def find_item(conn: Conn, account: Account, kind: Kind, subject: str) -> Item | None:
    """Return one item, None if there is none."""
    number = account.subject(subject)
    row = conn.execute(
        "SELECT sealed, at, flags FROM private_item"
        " WHERE account = %s AND kind = %s AND subject = %s",
        (account.id, kind, number),
    ).fetchone()
    if row is None:
        return None
    sealed, at, flags = row
    return Item(kind, number, account.open(kind, number, sealed), at, flags)


def find_items(
    conn: Conn,
    account: Account,
    kind: Kind,
    limit: int,
    after: tuple[datetime, int] | None = None,
    *,
    flags: int | None = None,
) -> list[Item]:
    """Return items of a kind, newest first; with `flags` only those that have these.

    `after` is the time and subject of the item before.
    """
    keyset = "AND (at, subject) < (%(at)s, %(subject)s)" if after else ""
    flagged = "" if flags is None else "AND flags = %(flags)s"
    rows = conn.execute(
        f"""
        SELECT subject, sealed, at, flags FROM private_item
        WHERE account = %(account)s AND kind = %(kind)s {keyset} {flagged}
        ORDER BY at DESC, subject DESC LIMIT %(limit)s
        """,
        {
            "account": account.id,
            "kind": kind,
            "at": after[0] if after else None,
            "subject": after[1] if after else None,
            "flags": flags,
            "limit": limit,
        },
    )
    return [
        Item(kind, subject, account.open(kind, subject, sealed), at, flags)
        for subject, sealed, at, flags in rows
    ]


def count_items(conn: Conn, account: Account, kind: Kind) -> int:
    """Return the number of items of a kind."""
    return fetch_int(
        conn,
        "SELECT count(*) FROM private_item WHERE account = %s AND kind = %s",
        (account.id, kind),
    )
