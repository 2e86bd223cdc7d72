"""Commits that arrive while their repo is fetched, kept in order.

The checkout of the repo applies them in its own transaction and skips those it already
covers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

from protocol.data import cbor
from protocol.events.drops import DropReason
from protocol.events.event import CommitEvent, DroppedOp, RecordOp
from storage.postgres.pool import Conn

MAX_COMMITS: Final = 2_000
MAX_BYTES: Final = 8 * 1024**2
"""Limits of one repo's buffer. Beyond them another fetch is cheaper."""


def put_commits(conn: Conn, commits: Iterable[tuple[int, CommitEvent]]) -> list[int]:
    """Append (actor, commit) pairs, in order. Does not commit.

    Returns the actors over the limit: their buffers are cleared, and their repos must
    be fetched again.
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


def load_commits(conn: Conn, actor: int) -> list[CommitEvent]:
    """Return an actor's buffered commits, oldest first."""
    rows = conn.execute(
        "SELECT event FROM resync_buffer WHERE actor = %s ORDER BY id",
        (actor,),
        binary=True,
    )
    return [decode_commit(event) for (event,) in rows]


def find_buffered(conn: Conn, actors: Sequence[int]) -> list[int]:
    rows = conn.execute(
        "SELECT DISTINCT actor FROM resync_buffer WHERE actor = ANY(%s) ORDER BY actor",
        (list(actors),),
    )
    return [actor for (actor,) in rows]


def clear_commits(conn: Conn, *actors: int) -> int:
    """Delete the buffered commits of actors; return their number."""
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
