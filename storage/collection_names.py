"""Collections by NSID or by a prefix of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from storage.postgres.pool import Conn

MAX_COLLECTIONS: Final = 1_000
"""Collections of one search; the first known come first."""


def find_named(
    conn: Conn, names: Sequence[str], *, without: Sequence[int] = ()
) -> list[int]:
    """Return the ids of collections by NSID, or by a prefix that ends with a dot.

    Without names, all but those in `without`.
    """
    if not names:
        rows = conn.execute(
            "SELECT id FROM collection WHERE id <> ALL(%s) ORDER BY id LIMIT %s",
            ([*without], MAX_COLLECTIONS),
        )
        return [number for (number,) in rows]
    found: dict[int, None] = {}
    whole = [name for name in names if not name.endswith(".")]
    rows = conn.execute("SELECT id FROM collection WHERE nsid = ANY(%s)", (whole,))
    found.update((number, None) for (number,) in rows)
    for prefix in names:
        if prefix.endswith("."):
            rows = conn.execute(
                'SELECT id FROM collection WHERE nsid COLLATE "C" >= %s'
                ' AND nsid COLLATE "C" < %s ORDER BY id LIMIT %s',
                (prefix, prefix[:-1] + "/", MAX_COLLECTIONS),
            )
            found.update((number, None) for (number,) in rows)
    return [*found][:MAX_COLLECTIONS]


def name_collections(conn: Conn, ids: Iterable[int]) -> dict[int, str]:
    """Return id -> NSID of known collections."""
    return dict(
        conn.execute(
            "SELECT id, nsid FROM collection WHERE id = ANY(%s)", ([*ids],)
        ).fetchall()
    )
