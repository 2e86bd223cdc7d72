"""Tables of the mirror of a PLC directory: logs, unproven DIDs, positions, hosts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg.rows import class_row

from plc.operation import LogEntry
from plc.operation_codec import pack_did, pack_log, unpack_did, unpack_log
from protocol.syntax import Did
from storage.postgres.arrays import bytes_array
from storage.postgres.pool import Conn

MAX_HOSTS: Final = 500_000
# As many as can be fetched in half a day; above, the export is not read on.
MAX_UNPROVEN: Final = 100_000
_MAX_REASON_CHARS: Final = 200
_FIRST_RETRY_S: Final = 60.0
_LONGEST_RETRY_S: Final = 86_400.0
# At least half an hour with the pauses between them.
_ENOUGH_TRIES: Final = 6


@dataclass(frozen=True, slots=True)
class FeedState:
    """The position in the export of a directory; see `plc_feed`."""

    seq: int | None = None
    time_ms: int | None = None
    cid: str | None = None
    operations: int = 0
    caught_up_at: datetime | None = None
    error: str | None = None


def load_logs(conn: Conn, dids: Collection[str]) -> dict[Did, list[LogEntry]]:
    """Return the proven logs of those of these did:plc that are known."""
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
    """Write whole logs, sorted against deadlocks; does not commit."""
    rows = sorted((pack_did(did), pack_log(log)) for did, log in logs.items())
    if rows:
        conn.execute(
            """
            INSERT INTO plc_log (did, log)
            SELECT * FROM unnest(%s::bytea[], %s::bytea[])
            ON CONFLICT (did) DO UPDATE SET log = excluded.log
            """,
            (bytes_array(did for did, _ in rows), bytes_array(log for _, log in rows)),
        )


def mark_unproven(conn: Conn, unproven: Mapping[Did, str]) -> int:
    """Record DIDs whose operations do not follow; return the number of all.

    Returns 0 without new ones. A known one keeps its schedule. Does not commit.
    """
    if not unproven:
        return 0
    rows = sorted((pack_did(did), why) for did, why in unproven.items())
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
    row = conn.execute("SELECT count(*) FROM plc_doubt").fetchone()
    assert row is not None
    return int(row[0])


def claim_unproven(conn: Conn, limit: int) -> list[Did]:
    """Return unproven DIDs that are due, and double their delay. Commit at once."""
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


def clear_unproven(conn: Conn, dids: Iterable[str]) -> None:
    """Forget DIDs that a whole log resolved after enough tries; does not commit.

    The first replies may come from a copy that lags.
    """
    conn.execute(
        "DELETE FROM plc_doubt WHERE did = ANY(%s::bytea[]) AND tries >= %s",
        (bytes_array(map(pack_did, dids)), _ENOUGH_TRIES),
    )


def load_feed(conn: Conn, directory: str) -> FeedState:
    """Return the position in a directory's export, at first its start."""
    with conn.cursor(row_factory=class_row(FeedState)) as cursor:
        cursor.execute(
            "SELECT seq, time_ms, cid, operations, caught_up_at, error FROM plc_feed"
            " WHERE directory = %s",
            (directory,),
        )
        return cursor.fetchone() or FeedState()


def lock_feed(conn: Conn, directory: str) -> FeedState:
    """Return `load_feed`, locked until the transaction ends."""
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
    """Record the position in the transaction of what was read."""
    conn.execute(
        """
        UPDATE plc_feed SET seq = %s, time_ms = %s, cid = %s,
            operations = operations + %s
        WHERE directory = %s
        """,
        (seq, time_ms, cid, operations, directory),
    )


def reset_feed(conn: Conn, directory: str, seq: int) -> None:
    """Reset the position if it is still `seq`, and mark the mirror as not caught up."""
    conn.execute(
        """
        UPDATE plc_feed SET seq = NULL, cid = NULL, caught_up_at = NULL
        WHERE directory = %s AND seq = %s
        """,
        (directory, seq),
    )


def note_caught_up(conn: Conn, directory: str, at: float) -> None:
    """Record that nothing was left to read at `at` (Unix time), and clear the error."""
    conn.execute(
        """
        INSERT INTO plc_feed (directory, caught_up_at) VALUES (%s, to_timestamp(%s))
        ON CONFLICT (directory) DO UPDATE SET error = NULL, error_at = NULL,
            caught_up_at = greatest(plc_feed.caught_up_at, excluded.caught_up_at)
        """,
        (directory, at),
    )


def note_feed_error(conn: Conn, directory: str, error: str) -> None:
    """Record the reason why the export cannot be read."""
    conn.execute(
        """
        INSERT INTO plc_feed (directory, error, error_at) VALUES (%s, %s, now())
        ON CONFLICT (directory) DO UPDATE
        SET error = excluded.error, error_at = excluded.error_at
        """,
        (directory, error[:_MAX_REASON_CHARS].replace("\0", "")),
    )


def stuck_feeds(conn: Conn) -> dict[str, str]:
    """Return directories with an export unreadable for ten minutes, and the reason."""
    rows = conn.execute(
        """
        SELECT directory, error FROM plc_feed
        WHERE error IS NOT NULL AND error_at > now() - interval '1 hour'
          AND coalesce(caught_up_at, 'epoch') < now() - interval '10 minutes'
        """
    )
    return dict(rows.fetchall())


def add_hosts(conn: Conn, urls: Collection[str]) -> None:
    """Record origins of PDSes, up to MAX_HOSTS; does not commit."""
    if not urls:
        return
    known = conn.execute(
        "SELECT url FROM plc_host WHERE url = ANY(%s)", (list(urls),)
    ).fetchall()
    new = sorted(set(urls) - {row[0] for row in known})
    if new:
        conn.execute(
            """
            INSERT INTO plc_host (url) SELECT unnest(%s::text[])
            WHERE (SELECT count(*) FROM plc_host) < %s ON CONFLICT DO NOTHING
            """,
            (new, MAX_HOSTS),
        )


def hosts_after(
    conn: Conn, cursor: int, *, limit: int = 1_000
) -> list[tuple[int, str]]:
    """Return (cursor, origin) of PDSes first seen after `cursor`, in that order.

    The origins are untrusted.
    """
    rows = conn.execute(
        "SELECT id, url FROM plc_host WHERE id > %s ORDER BY id LIMIT %s",
        (cursor, limit),
    )
    return rows.fetchall()
