"""Identities: documents and handles to refresh, and verified handles."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from storage.change_log import NAME, log_accounts
from storage.collections import ACTOR_PROFILE, COLLECTION_IDS, RKEY_SELF
from storage.outbox import put_outbox
from storage.postgres.pool import Conn

_PROFILE = COLLECTION_IDS[ACTOR_PROFILE]


def mark_stale(conn: Conn, identities: Mapping[int, str]) -> None:
    """Mark documents and handles to refresh (actor -> DID). Does not commit.

    The old ones stay until then: an event proves nothing.
    """
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
    # If the immediate refresh is lost, the scheduled one comes next.
    conn.execute(
        "UPDATE repo SET identity_at = 'epoch' WHERE actor = ANY(%s)",
        (sorted(identities),),
    )


def save_handles(conn: Conn, handles: Mapping[int, str | None], now: datetime) -> None:
    """Write actor -> handle verified both ways, None if it was not. Does not commit.

    A handle belongs to one account. Its previous owner loses it and is checked again
    soon, because either result may be the older one.
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
    log_accounts(conn, sorted(touched), NAME)
