"""Commits that arrive while their repo is being fetched, kept in order.

The checkout of the repo drains them in its own transaction: those it already covers
are passed over, the rest follow from it one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import psycopg

from protocol.data import cbor
from protocol.events.drops import DropReason
from protocol.events.event import CommitEvent, DroppedOp, RecordOp

MAX_COMMITS: Final = 2_000
MAX_BYTES: Final = 8 * 1024**2
"""What is kept for one repo while it is fetched. Beyond it, fetching it once more
costs less than keeping everything."""


def put_commits(
    conn: psycopg.Connection[Any], commits: Iterable[tuple[int, CommitEvent]]
) -> list[int]:
    """Append (actor, commit) pairs, in order. Does not commit.

    Returns the actors of whom too much has come: nothing is kept of those any more,
    and their repos must be fetched anew.
    """
    rows = [(actor, event.seq, encode_commit(event)) for actor, event in commits]
    if not rows:
        return []
    actors = [row[0] for row in rows]
    conn.execute(
        """
        INSERT INTO resync_buffer (actor, seq, event)
        SELECT actor, seq, event FROM unnest(%s::int4[], %s::int8[], %s::bytea[])
            WITH ORDINALITY AS t (actor, seq, event, place)
        ORDER BY place
        """,
        (actors, [row[1] for row in rows], [row[2] for row in rows]),
    )
    found = conn.execute(
        """
        SELECT actor FROM resync_buffer WHERE actor = ANY(%s) GROUP BY actor
        HAVING count(*) > %s OR sum(octet_length(event)) > %s
        """,
        (sorted(set(actors)), MAX_COMMITS, MAX_BYTES),
    )
    full = [actor for (actor,) in found]
    clear_commits(conn, *full)
    return full


def load_commits(conn: psycopg.Connection[Any], actor: int) -> list[CommitEvent]:
    """Return an actor's buffered commits, oldest first."""
    rows = conn.execute(
        "SELECT event FROM resync_buffer WHERE actor = %s ORDER BY id",
        (actor,),
        binary=True,
    )
    return [decode_commit(event) for (event,) in rows]


def find_buffered(conn: psycopg.Connection[Any], actors: Sequence[int]) -> list[int]:
    """Those of these actors that have buffered commits."""
    rows = conn.execute(
        "SELECT DISTINCT actor FROM resync_buffer WHERE actor = ANY(%s) ORDER BY actor",
        (list(actors),),
    )
    return [actor for (actor,) in rows]


def clear_commits(conn: psycopg.Connection[Any], *actors: int) -> int:
    """Drop the buffered commits of actors; return how many there were."""
    if not actors:
        return 0
    return conn.execute(
        "DELETE FROM resync_buffer WHERE actor = ANY(%s)", (list(actors),)
    ).rowcount


def encode_commit(event: CommitEvent) -> bytes:
    """Write a commit event as canonical CBOR."""
    fields: list[Any] = [
        event.did,
        event.rev,
        event.since,
        event.data,
        event.prev_data,
        event.commit,
        [[op.action, op.collection, op.rkey, op.cid, op.value] for op in event.ops],
        [[drop.path, drop.cid, drop.reason.value] for drop in event.drops],
        event.seq,
        event.host,
    ]
    return cbor.encode(fields)


def decode_commit(data: bytes) -> CommitEvent:
    """Read what `encode_commit` wrote."""
    fields = cast("list[Any]", cbor.decode(data))
    did, rev, since, root, prev_data, commit, ops, drops, seq, host = fields
    return CommitEvent(
        did=did,
        rev=rev,
        since=since,
        data=root,
        prev_data=prev_data,
        commit=commit,
        ops=tuple(RecordOp(*op) for op in ops),
        drops=tuple(
            DroppedOp(path, cid, DropReason(reason)) for path, cid, reason in drops
        ),
        seq=seq,
        host=host,
    )
