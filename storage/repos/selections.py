"""Collections that are kept of a repo: all, or those of a selection.

`repo.selection` is what the stored rows are: NULL for the whole repo, else every record
of these collections and no other. `scope.selection` is what is wanted. A selection
never changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from storage.postgres.arrays import int_array
from storage.postgres.fetch import fetch_int
from storage.postgres.pool import Conn


@dataclass(frozen=True, slots=True)
class Selection:
    """A set of collections by NSID, and its id."""

    id: int
    collections: frozenset[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A page of repos to compare with the wanted selection.

    `upto` is None on the last page; `changed_at` identifies the scope.
    """

    dids: tuple[str, ...]
    upto: int | None
    changed_at: datetime


def put_selection(conn: Conn, collections: Collection[str]) -> int | None:
    """Return the id of a selection, None for no collections, which means all. Does not
    commit."""
    names = sorted(set(collections))
    if not names:
        return None
    conn.execute(
        "INSERT INTO selection (collections) VALUES (%s) ON CONFLICT DO NOTHING",
        (names,),
    )
    return fetch_int(conn, "SELECT id FROM selection WHERE collections = %s", (names,))


def load_selections(conn: Conn, ids: Iterable[int]) -> dict[int, Selection]:
    """Return the selections with these ids, in at most one statement."""
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    rows = conn.execute(
        "SELECT id, collections FROM selection WHERE id = ANY(%s::int4[])",
        (int_array(wanted),),
    )
    return {row[0]: Selection(row[0], frozenset(row[1])) for row in rows}


def wanted_selection(conn: Conn) -> Selection | None:
    """Return the wanted selection; None for whole repos."""
    row = conn.execute(
        "SELECT s.id, s.collections FROM scope JOIN selection s ON s.id = selection"
    ).fetchone()
    return None if row is None else Selection(row[0], frozenset(row[1]))


def settle_wanted(conn: Conn) -> int | None:
    """Return the id of the wanted selection, locked until the transaction ends."""
    row = conn.execute("SELECT selection FROM scope FOR SHARE").fetchone()
    return None if row is None else row[0]


def next_comparison(conn: Conn, limit: int) -> Comparison | None:
    """Return the next repos to compare after a change of the selection; None at the
    end."""
    row = conn.execute(
        "SELECT compared, changed_at FROM scope WHERE compared IS NOT NULL"
    ).fetchone()
    if row is None:
        return None
    rows = conn.execute(
        """
        SELECT actor, did FROM repo JOIN actor ON actor.id = repo.actor
        WHERE actor > %s ORDER BY actor LIMIT %s
        """,
        (row[0], limit),
    ).fetchall()
    upto = rows[-1][0] if len(rows) == limit else None
    return Comparison(tuple(did for _, did in rows), upto, row[1])


def note_compared(conn: Conn, page: Comparison) -> None:
    """Note that a page was compared, unless the scope changed since. Does not
    commit."""
    conn.execute(
        "UPDATE scope SET compared = %s WHERE changed_at = %s",
        (page.upto, page.changed_at),
    )
