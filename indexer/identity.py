"""Identities: which names must be looked up again, and the handle an account has."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from storage.collections import ACTOR_PROFILE, COLLECTION_IDS, RKEY_SELF
from storage.outbox import put_outbox
from storage.postgres.pool import Conn

_PROFILE = COLLECTION_IDS[ACTOR_PROFILE]


def mark_stale(conn: Conn, identities: Mapping[int, str]) -> None:
    """actor -> DID: their document and handle must be looked up again. Until then the
    old ones stay: an event proves nothing. Does not commit."""
    if not identities:
        return
    conn.execute(
        "UPDATE actor SET handle_checked_at = NULL WHERE id = ANY(%s)",
        (sorted(identities),),
    )
    conn.execute(
        "UPDATE identity SET fetched_at = 'epoch' WHERE did = ANY(%s)",
        (sorted(identities.values()),),
    )
    # Should the look be lost that was asked for at once, their turn is next.
    conn.execute(
        "UPDATE repo SET identity_at = 'epoch' WHERE actor = ANY(%s)",
        (sorted(identities),),
    )


def save_handles(conn: Conn, handles: Mapping[int, str | None], now: datetime) -> None:
    """Write actor -> handle verified both ways (None: it did not verify).

    A handle belongs to one account: whoever had it before loses it, and is checked
    again soon, for the answer may have been the older one. Does not commit.
    """
    if not handles:
        return
    actors = sorted(handles)
    names = [handles[actor] for actor in actors]
    lost = conn.execute(
        """
        UPDATE actor SET handle = NULL, handle_checked_at = NULL
        FROM unnest(%s::int4[], %s::text[]) AS d (id, handle)
        WHERE actor.handle = d.handle AND actor.id <> d.id RETURNING actor.id
        """,
        (actors, names),
    ).fetchall()
    conn.execute(
        "UPDATE repo SET identity_at = 'epoch' WHERE actor = ANY(%s)",
        ([actor for (actor,) in lost],),
    )
    changed = conn.execute(
        """
        WITH old AS (
            SELECT id, handle FROM actor WHERE id = ANY(%(ids)s) FOR UPDATE
        )
        UPDATE actor SET handle = d.handle, handle_checked_at = %(now)s
        FROM unnest(%(ids)s::int4[], %(names)s::text[]) AS d (id, handle), old
        WHERE actor.id = d.id AND old.id = d.id
        RETURNING actor.id, old.handle IS DISTINCT FROM d.handle
        """,
        {"ids": actors, "names": names, "now": now},
    ).fetchall()
    touched = {row[0] for row in lost} | {actor for actor, new in changed if new}
    put_outbox(conn, [(actor, _PROFILE, RKEY_SELF) for actor in sorted(touched)])
