"""Accounts that a viewer mutes, by DID."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from storage.postgres.pool import Conn

MAX_MUTES: Final = 10_000
"""Mutes of one viewer: all of them are read for each answer."""
MAX_DID_BYTES: Final = 1_000
"""An index row holds two DIDs, and Postgres bounds it at 2,704 bytes."""


class TooManyMutesError(Exception):
    """The viewer has as many mutes as one may have."""


class Mute(NamedTuple):
    """The scope of a mute: everything, unless a part is named."""

    only_reposts: bool = False
    only_quotes: bool = False

    @property
    def is_full(self) -> bool:
        """Return True if nothing of the account is left out."""
        return not (self.only_reposts or self.only_quotes)


def save_mute(conn: Conn, viewer: str, subject: str, mute: Mute) -> None:
    """Mute an account, or change the scope of its mute.

    A mute keeps its time. Raises TooManyMutesError.
    """
    changed = conn.execute(
        "UPDATE mute SET only_reposts = %s, only_quotes = %s"
        " WHERE viewer = %s AND subject = %s",
        (*mute, viewer, subject),
    ).rowcount
    if changed:
        return
    saved = conn.execute(
        """
        INSERT INTO mute (only_reposts, only_quotes, viewer, subject)
        SELECT %s, %s, %s, %s
        WHERE (SELECT count(*) FROM mute WHERE viewer = %s) < %s
        ON CONFLICT (viewer, subject) DO UPDATE
        SET only_reposts = excluded.only_reposts, only_quotes = excluded.only_quotes
        """,
        (*mute, viewer, subject, viewer, MAX_MUTES),
    ).rowcount
    if not saved:
        raise TooManyMutesError(f"at most {MAX_MUTES} accounts can be muted")


def delete_mute(conn: Conn, viewer: str, subject: str) -> None:
    """End the mute of an account, if there is one."""
    conn.execute(
        "DELETE FROM mute WHERE viewer = %s AND subject = %s", (viewer, subject)
    )


def load_mutes(conn: Conn, viewer: str) -> dict[str, Mute]:
    """Return all mutes of a viewer, by subject."""
    rows = conn.execute(
        "SELECT subject, only_reposts, only_quotes FROM mute WHERE viewer = %s"
        " LIMIT %s",
        (viewer, MAX_MUTES),
    )
    return {subject: Mute(reposts, quotes) for subject, reposts, quotes in rows}


def find_muted(
    conn: Conn, viewer: str, limit: int, after: tuple[datetime, str] | None = None
) -> list[tuple[str, datetime]]:
    """Return fully muted accounts with the times of their mutes, newest first.

    `after` is the time and DID of the entry before.
    """
    keyset = "AND (muted_at, subject) < (%s, %s)" if after else ""
    return conn.execute(
        f"""
        SELECT subject, muted_at FROM mute
        WHERE viewer = %s AND NOT (only_reposts OR only_quotes) {keyset}
        ORDER BY muted_at DESC, subject DESC LIMIT %s
        """,
        (viewer, *(after or ()), limit),
    ).fetchall()
