"""Which collections of a repo are kept: all of it, or those of a selection.

`repo.selection` says what the rows of a repo are: NULL is the whole repo, else every
record of these collections and no other. `scope.selection` says what is wanted. A
selection never changes once it has a number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from storage.postgres.arrays import int_array

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Selection:
    """A set of collections, by NSID, and its number."""

    id: int
    collections: frozenset[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A page of repos to be held against what is wanted. `upto` is None on the last
    page; `changed_at` is the scope it is about."""

    dids: tuple[str, ...]
    upto: int | None
    changed_at: datetime


def put_selection(conn: Connection, collections: Collection[str]) -> int | None:
    """The number of a selection; None for none, which is everything. Does not
    commit."""
    names = sorted(set(collections))
    if not names:
        return None
    conn.execute(
        "INSERT INTO selection (collections) VALUES (%s) ON CONFLICT DO NOTHING",
        (names,),
    )
    row = conn.execute(
        "SELECT id FROM selection WHERE collections = %s", (names,)
    ).fetchone()
    assert row is not None
    return int(row[0])


def load_selections(conn: Connection, ids: Iterable[int]) -> dict[int, Selection]:
    """Those of these numbers. One statement, none where there are no numbers."""
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    rows = conn.execute(
        "SELECT id, collections FROM selection WHERE id = ANY(%s::int4[])",
        (int_array(wanted),),
    )
    return {row[0]: Selection(row[0], frozenset(row[1])) for row in rows}


def wanted_selection(conn: Connection) -> Selection | None:
    """What is to be kept of a repo; None is all of it."""
    row = conn.execute(
        "SELECT s.id, s.collections FROM scope JOIN selection s ON s.id = selection"
    ).fetchone()
    return None if row is None else Selection(row[0], frozenset(row[1]))


def settle_wanted(conn: Connection) -> int | None:
    """The number of what is wanted, until the end of the caller's transaction: a
    scope that is set meanwhile waits for that, or is seen here."""
    row = conn.execute("SELECT selection FROM scope FOR SHARE").fetchone()
    return None if row is None else row[0]


def next_comparison(conn: Connection, limit: int) -> Comparison | None:
    """The next repos that were begun before the selection changed; None when all of
    them were looked at."""
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


def note_compared(conn: Connection, page: Comparison) -> None:
    """These were looked at, unless the scope was set anew meanwhile. Does not
    commit."""
    conn.execute(
        "UPDATE scope SET compared = %s WHERE changed_at = %s",
        (page.upto, page.changed_at),
    )
