"""Saved searches of accounts, by DID, and their changes in order."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg.types.json import Jsonb

from storage.postgres.fetch import fetch_int
from storage.postgres.pool import Conn
from storage.private.change_log import ChangeLog

MAX_SEARCHES: Final = 100
"""Saved searches of one account."""
MAX_UNLISTED: Final = 100
"""Saved searches of all accounts that every record must be checked for."""
_COLUMNS: Final = "id, owner, query, name, collections, accounts, saved_at, paused_at"
_CHANGES: Final = ChangeLog("saved_search", _COLUMNS, "query")


class TooManySearchesError(Exception):
    """No further saved search is accepted; the message says why."""


@dataclass(frozen=True, slots=True)
class SavedSearch:
    """A query of an account; `collections` are the NSIDs that it searches.

    `query` is None after its removal. `accounts` has the DIDs of the handles in it, as
    they were when it was saved. A paused search has found too much.
    """

    id: int
    owner: str
    query: str | None
    name: str
    collections: tuple[str, ...]
    accounts: Mapping[str, str]
    saved_at: datetime
    paused_at: datetime | None = None

    @property
    def is_active(self) -> bool:
        """Return True if new records are matched."""
        return self.query is not None and self.paused_at is None


def save_search(
    conn: Conn,
    owner: str,
    query: str,
    now: datetime,
    *,
    collections: Sequence[str],
    accounts: Mapping[str, str],
    listed: bool,
    name: str = "",
    replace: int | None = None,
) -> SavedSearch | None:
    """Store a search, or change one of the same owner; return it, None if unknown.

    A paused search goes on. Raises TooManySearchesError.
    """
    # Locks the counter, so that the limits hold.
    changed = _CHANGES.take_number(conn)
    if replace is None and count_searches(conn, owner) >= MAX_SEARCHES:
        raise TooManySearchesError(f"at most {MAX_SEARCHES} searches can be saved")
    if not listed:
        others = fetch_int(
            conn,
            "SELECT count(*) FROM saved_search"
            " WHERE NOT listed AND query IS NOT NULL AND id IS DISTINCT FROM %s",
            (replace,),
        )
        if others >= MAX_UNLISTED:
            raise TooManySearchesError(
                "the query needs a word, a tag, an account or a link"
                " that every match must hold"
            )
    given = (changed, query, name, [*collections], Jsonb(accounts), listed, now)
    if replace is None:
        row = conn.execute(
            "INSERT INTO saved_search"
            " (changed, query, name, collections, accounts, listed, saved_at, owner)"
            f" VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING {_COLUMNS}",
            (*given, owner),
        ).fetchone()
    else:
        row = conn.execute(
            "UPDATE saved_search SET changed = %s, query = %s, name = %s,"
            " collections = %s, accounts = %s, listed = %s, saved_at = %s,"
            " paused_at = NULL"
            " WHERE id = %s AND owner = %s AND query IS NOT NULL"
            f" RETURNING {_COLUMNS}",
            (*given, replace, owner),
        ).fetchone()
    return None if row is None else _search(*row)


def delete_search(conn: Conn, owner: str, number: int) -> bool:
    """Remove a search of this owner; return True if there was one."""
    gone = conn.execute(
        "UPDATE saved_search"
        " SET changed = %s, query = NULL, name = '', saved_at = now()"
        " WHERE id = %s AND owner = %s AND query IS NOT NULL",
        (_CHANGES.take_number(conn), number, owner),
    ).rowcount
    conn.execute(
        "DELETE FROM match_webhook USING saved_search s"
        " WHERE search = %s AND s.id = search AND s.query IS NULL",
        (number,),
    )
    return gone > 0


def pause_searches(conn: Conn, numbers: Collection[int], now: datetime) -> None:
    """Stop the matching of searches that find too much."""
    for number in sorted(numbers):
        conn.execute(
            "UPDATE saved_search SET changed = %s, paused_at = %s"
            " WHERE id = %s AND paused_at IS NULL AND query IS NOT NULL",
            (_CHANGES.take_number(conn), now, number),
        )


def find_searches(conn: Conn, owner: str) -> list[SavedSearch]:
    """Return the searches of an account, oldest first."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM saved_search"
        " WHERE owner = %s AND query IS NOT NULL ORDER BY id LIMIT %s",
        (owner, MAX_SEARCHES),
    )
    return [_search(*row) for row in rows]


def find_searches_by_id(conn: Conn, numbers: Collection[int]) -> dict[int, SavedSearch]:
    """Return the searches with these numbers, without removed ones."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM saved_search WHERE id = ANY(%s) AND query IS NOT NULL",
        (sorted(numbers),),
    )
    return {row[0]: _search(*row) for row in rows}


def count_searches(conn: Conn, owner: str) -> int:
    """Return the number of searches of an account."""
    return fetch_int(
        conn,
        "SELECT count(*) FROM saved_search WHERE owner = %s AND query IS NOT NULL",
        (owner,),
    )


def load_changes(conn: Conn, seen: int, limit: int) -> tuple[int, list[SavedSearch]]:
    """Return searches that changed after `seen`, and the number of the last change."""
    last, rows = _CHANGES.read(conn, seen, limit)
    return last, [_search(*row) for row in rows]


def load_last_change(conn: Conn) -> int:
    """Return the number of the last change."""
    return fetch_int(conn, "SELECT last FROM saved_search_counter")


def forget_deleted(conn: Conn, before: datetime) -> int:
    """Delete the rows of searches that were removed; return their number."""
    return _CHANGES.forget_removed(conn, before)


def _search(
    number: int,
    owner: str,
    query: str | None,
    name: str,
    collections: list[str],
    accounts: dict[str, str],
    saved_at: datetime,
    paused_at: datetime | None,
) -> SavedSearch:
    return SavedSearch(
        number, owner, query, name, (*collections,), accounts, saved_at, paused_at
    )
