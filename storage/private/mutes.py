"""Accounts, lists and threads that a viewer mutes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple

from storage.postgres.pool import Conn
from storage.private.private_items import Kind, delete_item, find_items, save_item
from storage.private.sealing import Account, Vault

_ONLY_REPOSTS: Final = 1
_ONLY_QUOTES: Final = 2
_MOVED_ROWS: Final = 1_000


class Mute(NamedTuple):
    """The scope of a mute: everything, unless a part is named."""

    only_reposts: bool = False
    only_quotes: bool = False

    @property
    def is_full(self) -> bool:
        """Return True if nothing of the account is left out."""
        return not (self.only_reposts or self.only_quotes)

    @property
    def flags(self) -> int:
        """Return the scope as it is stored."""
        return _ONLY_REPOSTS * self.only_reposts | _ONLY_QUOTES * self.only_quotes


FULL_MUTE: Final = Mute()


def mute_of(flags: int) -> Mute:
    """Return the scope of stored flags."""
    return Mute(bool(flags & _ONLY_REPOSTS), bool(flags & _ONLY_QUOTES))


def save_mute(
    conn: Conn, viewer: Account, subject: str, mute: Mute, at: datetime | None = None
) -> None:
    """Mute an account, or change the scope of its mute.

    A mute keeps its time. Raises TooManyItemsError.
    """
    now = at or datetime.now(UTC)
    value = {"subject": subject}
    save_item(conn, viewer, Kind.MUTE, subject, value, now, flags=mute.flags)


def delete_mute(conn: Conn, viewer: Account, subject: str) -> None:
    """End the mute of an account, if there is one."""
    delete_item(conn, viewer, Kind.MUTE, subject)


def find_muted(
    conn: Conn, viewer: Account, limit: int, after: tuple[datetime, int] | None = None
) -> list[tuple[str, datetime, int]]:
    """Return fully muted accounts with the keysets of their mutes, newest first.

    `after` is the keyset of the entry before.
    """
    items = find_items(conn, viewer, Kind.MUTE, limit, after, flags=FULL_MUTE.flags)
    return [(item.value["subject"], item.at, item.subject) for item in items]


def seal_plain_mutes(conn: Conn, vault: Vault) -> int:
    """Encrypt up to a thousand mutes of an earlier version; return their number."""
    rows = conn.execute(
        "DELETE FROM mute WHERE (viewer, subject) IN"
        " (SELECT viewer, subject FROM mute LIMIT %s FOR UPDATE SKIP LOCKED)"
        " RETURNING viewer, subject, only_reposts, only_quotes, muted_at",
        (_MOVED_ROWS,),
    ).fetchall()
    for viewer, subject, only_reposts, only_quotes, at in rows:
        mute = Mute(only_reposts, only_quotes)
        save_mute(conn, vault.account(viewer), subject, mute, at)
    return len(rows)
