"""Counts of dropped items, and CIDs of dropped records that keep a tree complete."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256

from storage.postgres.pool import Conn

_DIGEST_BYTES = 16


def count_drops(conn: Conn, counts: Mapping[tuple[str, int], int]) -> None:
    """Add (reason, host id) -> number. Does not commit."""
    rows = [(*key, n) for key, n in sorted(counts.items()) if n]
    if not rows:
        return
    reasons, hosts, numbers = (list(column) for column in zip(*rows, strict=True))
    conn.execute(
        """
        INSERT INTO drop_count (reason, host, n)
        SELECT * FROM unnest(%s::text[], %s::int4[], %s::int8[])
        ON CONFLICT (reason, host) DO UPDATE
        SET n = drop_count.n + excluded.n, last_at = now()
        """,
        (reasons, hosts, numbers),
    )


def put_dropped_records(
    conn: Conn, rows: Sequence[tuple[int, bytes, bytes, str]]
) -> None:
    """Store (actor, tree key, CID, reason) of records in a tree that are not kept.

    Each key once. Does not commit.
    """
    if not rows:
        return
    actors, paths, cids, reasons = (list(column) for column in zip(*rows, strict=True))
    conn.execute(
        """
        INSERT INTO dropped_record (actor, path_digest, path, cid, reason)
        SELECT * FROM unnest(%s::int4[], %s::bytea[], %s::bytea[], %s::bytea[],
                             %s::text[])
        ON CONFLICT (actor, path_digest) DO UPDATE
        SET cid = excluded.cid, reason = excluded.reason
        """,
        (actors, [_digest(path) for path in paths], paths, cids, reasons),
    )


def delete_dropped_records(conn: Conn, keys: Sequence[tuple[int, bytes]]) -> None:
    """Delete (actor, tree key) of records that left the tree or are kept now."""
    if not keys:
        return
    conn.execute(
        """
        DELETE FROM dropped_record r
        USING unnest(%s::int4[], %s::bytea[]) AS d (actor, path_digest)
        WHERE r.actor = d.actor AND r.path_digest = d.path_digest
        """,
        ([actor for actor, _ in keys], [_digest(path) for _, path in keys]),
    )


def delete_dropped_of(conn: Conn, *actors: int) -> None:
    conn.execute(
        "DELETE FROM dropped_record WHERE actor = ANY(%s::int4[])", (list(actors),)
    )


def delete_dropped_outside(
    conn: Conn, actor: int, collections: Collection[str]
) -> None:
    """Delete the dropped records of one repo outside these collections."""
    conn.execute(
        "DELETE FROM dropped_record"
        " WHERE actor = %s AND NOT path LIKE ANY(%s::bytea[])",
        (actor, [f"{nsid}/%".encode() for nsid in collections]),
    )


def _digest(path: bytes) -> bytes:
    # Paths may be longer than an index row allows.
    return sha256(path).digest()[:_DIGEST_BYTES]
