"""The rows of the mirror of a PLC directory: proven logs, doubts, how far we read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg.rows import class_row

from plc.operation import LogEntry
from plc.operation_codec import (
    pack_did,
    pack_log,
    unpack_did,
    unpack_log,
)
from protocol.syntax import Did
from storage.postgres.arrays import bytes_array
from storage.postgres.pool import Conn

MAX_HOSTS: Final = 500_000
MAX_DOUBTS: Final = 100_000
"""As many as are asked for in half a day. A directory of which more cannot be proven
is not read on."""
_MAX_REASON_CHARS: Final = 200
_FIRST_RETRY_S: Final = 60.0
_LONGEST_RETRY_S: Final = 86_400.0
# With the pauses between them half an hour and more.
_ENOUGH_TRIES: Final = 6


@dataclass(frozen=True, slots=True)
class FeedState:
    """How far the export of one directory was read; see `plc_feed`."""

    seq: int | None = None
    time_ms: int | None = None
    cid: str | None = None
    operations: int = 0
    caught_up_at: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class MirrorSize:
    """What the mirror holds. `size_bytes` with its index."""

    logs: int
    size_bytes: int
    doubts: int
    hosts: int


def load_logs(conn: Conn, dids: Collection[str]) -> dict[Did, list[LogEntry]]:
    """The proven logs of those of these did:plc that are here."""
    rows = conn.execute(
        "SELECT did, log FROM plc_log WHERE did = ANY(%s::bytea[])",
        (bytes_array(map(pack_did, dids)),),
        binary=True,
    )
    logs = {}
    for packed, log in rows:
        did = unpack_did(packed)
        logs[did] = unpack_log(did, log)
    return logs


def save_logs(conn: Conn, logs: Mapping[Did, Sequence[LogEntry]]) -> None:
    """Write whole logs, in the order of their keys, so that two writers never wait
    for each other crosswise. Does not commit."""
    rows = sorted((pack_did(did), pack_log(log)) for did, log in logs.items())
    if rows:
        conn.execute(
            """
            INSERT INTO plc_log (did, log)
            SELECT * FROM unnest(%s::bytea[], %s::bytea[])
            ON CONFLICT (did) DO UPDATE SET log = excluded.log
            """,
            (
                bytes_array(did for did, _ in rows),
                bytes_array(log for _, log in rows),
            ),
        )


def note_doubts(conn: Conn, doubts: Mapping[Did, str]) -> int:
    """Remember DIDs whose directory said something that does not follow; return how
    many there are now, if it said so of any. A doubt that stands already keeps its
    schedule. Does not commit."""
    if not doubts:
        return 0
    rows = sorted((pack_did(did), why) for did, why in doubts.items())
    conn.execute(
        """
        INSERT INTO plc_doubt (did, reason)
        SELECT * FROM unnest(%s::bytea[], %s::text[])
        ON CONFLICT (did) DO UPDATE SET reason = excluded.reason
        """,
        (
            bytes_array(did for did, _ in rows),
            [why[:_MAX_REASON_CHARS].replace("\0", "") for _, why in rows],
        ),
    )
    return _count_doubts(conn)


def _count_doubts(conn: Conn) -> int:
    row = conn.execute("SELECT count(*) FROM plc_doubt").fetchone()
    assert row is not None
    return int(row[0])


def claim_doubts(conn: Conn, limit: int) -> list[Did]:
    """Doubtful DIDs that are due; each is due again later, twice as late each time.
    Commit at once."""
    rows = conn.execute(
        """
        UPDATE plc_doubt d SET tries = d.tries + 1,
            next_try = now() + make_interval(
                secs => least(%s, %s * 2.0 ^ least(d.tries, 20)))
        FROM (
            SELECT did FROM plc_doubt WHERE next_try <= now()
            ORDER BY next_try LIMIT %s FOR UPDATE SKIP LOCKED
        ) AS due
        WHERE d.did = due.did RETURNING d.did
        """,
        (_LONGEST_RETRY_S, _FIRST_RETRY_S, limit),
        binary=True,
    )
    return [unpack_did(row[0]) for row in rows]


def end_doubts(conn: Conn, dids: Iterable[str]) -> None:
    """Forget doubts that a whole log resolved, once it was looked at for half an hour:
    a first answer may be of a copy that is behind. Does not commit."""
    conn.execute(
        "DELETE FROM plc_doubt WHERE did = ANY(%s::bytea[]) AND tries >= %s",
        (bytes_array(map(pack_did, dids)), _ENOUGH_TRIES),
    )


def load_doubts(conn: Conn, limit: int = 100) -> dict[Did, str]:
    """The newest doubts and why."""
    rows = conn.execute(
        "SELECT did, reason FROM plc_doubt ORDER BY since DESC LIMIT %s", (limit,)
    )
    return {unpack_did(bytes(did)): reason for did, reason in rows}


def load_feed(conn: Conn, directory: str) -> FeedState:
    """How far a directory's export was read; the beginning for an unknown one."""
    with conn.cursor(row_factory=class_row(FeedState)) as cursor:
        cursor.execute(
            "SELECT seq, time_ms, cid, operations, caught_up_at, error FROM plc_feed"
            " WHERE directory = %s",
            (directory,),
        )
        return cursor.fetchone() or FeedState()


def lock_feed(conn: Conn, directory: str) -> FeedState:
    """`load_feed`, held until the transaction ends: of two followers one waits, and
    then sees how far the other came."""
    conn.execute(
        "INSERT INTO plc_feed (directory) VALUES (%s) ON CONFLICT DO NOTHING",
        (directory,),
    )
    conn.execute("SELECT FROM plc_feed WHERE directory = %s FOR UPDATE", (directory,))
    return load_feed(conn, directory)


def move_feed(
    conn: Conn,
    directory: str,
    *,
    seq: int | None,
    time_ms: int | None,
    cid: str | None,
    operations: int,
) -> None:
    """Note that the export was read this far, in the transaction of what was read."""
    conn.execute(
        """
        UPDATE plc_feed SET seq = %s, time_ms = %s, cid = %s,
            operations = operations + %s
        WHERE directory = %s
        """,
        (seq, time_ms, cid, operations, directory),
    )


def begin_again(conn: Conn, directory: str, seq: int) -> None:
    """Forget how far the export was read, unless somebody read on from `seq`; until all
    is read again, nobody is answered from what is here."""
    conn.execute(
        """
        UPDATE plc_feed SET seq = NULL, cid = NULL, caught_up_at = NULL
        WHERE directory = %s AND seq = %s
        """,
        (directory, seq),
    )


def note_caught_up(conn: Conn, directory: str, at: float) -> None:
    """Note that nothing was left to read at `at` (Unix time), and no error stands."""
    conn.execute(
        """
        INSERT INTO plc_feed (directory, caught_up_at) VALUES (%s, to_timestamp(%s))
        ON CONFLICT (directory) DO UPDATE SET error = NULL, error_at = NULL,
            caught_up_at = greatest(plc_feed.caught_up_at, excluded.caught_up_at)
        """,
        (directory, at),
    )


def note_feed_error(conn: Conn, directory: str, error: str) -> None:
    """Note why the export cannot be read on; until it can, the mirror grows old."""
    conn.execute(
        """
        INSERT INTO plc_feed (directory, error, error_at) VALUES (%s, %s, now())
        ON CONFLICT (directory) DO UPDATE
        SET error = excluded.error, error_at = excluded.error_at
        """,
        (directory, error[:_MAX_REASON_CHARS].replace("\0", "")),
    )


def stuck_feeds(conn: Conn) -> dict[str, str]:
    """Directories whose export lately could not be read on for ten minutes, and why."""
    rows = conn.execute(
        """
        SELECT directory, error FROM plc_feed
        WHERE error IS NOT NULL AND error_at > now() - interval '1 hour'
          AND coalesce(caught_up_at, 'epoch') < now() - interval '10 minutes'
        """
    )
    return dict(rows.fetchall())


def add_hosts(conn: Conn, urls: Collection[str]) -> int:
    """Remember origins of PDSes; return how many are new. Does not commit.

    Bounded, since anybody may register DIDs with any host in them.
    """
    known = conn.execute(
        "SELECT url FROM plc_host WHERE url = ANY(%s)", (list(urls),)
    ).fetchall()
    new = sorted(set(urls) - {row[0] for row in known})
    if not new:
        return 0
    return conn.execute(
        """
        INSERT INTO plc_host (url) SELECT unnest(%s::text[])
        WHERE (SELECT count(*) FROM plc_host) < %s ON CONFLICT DO NOTHING
        """,
        (new, MAX_HOSTS),
    ).rowcount


def hosts_after(
    conn: Conn, cursor: int, *, limit: int = 1_000
) -> list[tuple[int, str]]:
    """(cursor, origin) of PDSes first seen after `cursor`, in the order they were
    seen. Nobody answers for them: who asks decides whether to contact them."""
    rows = conn.execute(
        "SELECT id, url FROM plc_host WHERE id > %s ORDER BY id LIMIT %s",
        (cursor, limit),
    )
    return rows.fetchall()


def mirror_size(conn: Conn) -> MirrorSize:
    """What the mirror holds; the number of logs is exact and costs a scan."""
    row = conn.execute(
        """
        SELECT (SELECT count(*) FROM plc_log), pg_total_relation_size('plc_log'),
            (SELECT count(*) FROM plc_doubt), (SELECT count(*) FROM plc_host)
        """
    ).fetchone()
    assert row is not None
    return MirrorSize(*row)
