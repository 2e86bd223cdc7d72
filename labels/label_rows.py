"""Stored labels, and the progress of each labeler's stream.

The newest label of a source on a subject is kept, by `cts`, also if it is a negation or
has expired. So labels may arrive in any order, and more than once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg.rows import dict_row

from labels.signed_label import LabelFault, SignedLabel
from storage.change_log import LABELS, log_addresses
from storage.postgres.fetch import fetch_all
from storage.postgres.pool import Conn
from storage.records.interning import Interner
from storage.states import STATUS_ACTIVE

MAX_ERROR_CHARS: Final = 200

Row = tuple[int, int, int, int, str, bytes, bool, datetime, datetime | None, bytes]


def rows_of(interner: Interner, labels: Sequence[SignedLabel]) -> list[Row]:
    """Return the rows of labels, the newest of each kind; creates missing names.

    At equal times a negation wins, then the greater bytes: the result does not depend
    on the order. Call it outside of transactions.
    """
    subjects = [label.subject for label in labels]
    actors = interner.actors(
        {s.did for s in subjects} | {label.src for label in labels}
    )
    collections = interner.collections({s.collection for s in subjects if s.collection})
    rkeys = interner.rkeys({s.rkey for s in subjects if s.rkey})
    newest: dict[tuple[Any, ...], Row] = {}
    for label in labels:
        subject = label.subject
        row: Row = (
            actors[subject.did],
            collections[subject.collection] if subject.collection else 0,
            rkeys[subject.rkey] if subject.rkey else 0,
            actors[label.src],
            label.val,
            label.cid,
            label.neg,
            label.cts,
            label.exp,
            label.raw,
        )
        known = newest.get(row[:6])
        if known is None or _age(row) > _age(known):
            newest[row[:6]] = row
    # In one order, so that two writers never wait for each other.
    return [newest[key] for key in sorted(newest)]


def _age(row: Row) -> tuple[datetime, bool, bytes]:
    return row[7], row[6], row[9]


def save_labels(conn: Conn, rows: Sequence[Row]) -> None:
    """Store labels, each unless a newer one is stored. Does not commit."""
    if not rows:
        return
    conn.execute(
        """
        INSERT INTO label (actor, collection, rkey, src, val, cid, neg, cts, exp, raw)
        SELECT * FROM unnest(%s::int4[], %s::int4[], %s::int8[], %s::int4[],
            %s::text[], %s::bytea[], %s::bool[], %s::timestamptz[], %s::timestamptz[],
            %s::bytea[])
        ON CONFLICT (actor, collection, rkey, src, val, cid) DO UPDATE
        SET neg = excluded.neg, cts = excluded.cts, exp = excluded.exp,
            raw = excluded.raw
        WHERE (excluded.cts, excluded.neg, excluded.raw)
            > (label.cts, label.neg, label.raw)
        """,
        [list(column) for column in zip(*rows, strict=True)],
    )
    log_addresses(conn, {row[:3] for row in rows}, LABELS)


def load_position(conn: Conn, src: int) -> int:
    """Return the number of a stream's last stored message, 0 before the first."""
    row = conn.execute("SELECT seq FROM label_stream WHERE src = %s", (src,)).fetchone()
    return int(row[0]) if row else 0


def save_progress(conn: Conn, src: int, seq: int, rows: Sequence[Row]) -> None:
    """Move a stream's position forward. Does not commit.

    Call it in the transaction of the labels that it covers.
    """
    conn.execute(
        """
        INSERT INTO label_stream (src, seq, labels, newest_cts, seen_at)
        VALUES (%s, %s, %s, %s, now())
        ON CONFLICT (src) DO UPDATE SET
            seq = greatest(label_stream.seq, excluded.seq),
            labels = label_stream.labels + excluded.labels,
            newest_cts = greatest(label_stream.newest_cts, excluded.newest_cts),
            seen_at = excluded.seen_at, error = NULL, failing_since = NULL
        """,
        (src, seq, len(rows), max((row[7] for row in rows), default=None)),
    )


def restart_stream(conn: Conn, src: int) -> None:
    """Read a stream from its start: its numbers have begun anew."""
    conn.execute("UPDATE label_stream SET seq = 0 WHERE src = %s", (src,))


def open_stream(conn: Conn, src: int) -> None:
    """Store a stream that is followed from now on, at its start."""
    conn.execute(
        "INSERT INTO label_stream (src) VALUES (%s) ON CONFLICT DO NOTHING", (src,)
    )


def note_error(conn: Conn, src: int, error: str) -> None:
    """Keep the last error of a stream for operators, and the time of the first."""
    conn.execute(
        """
        INSERT INTO label_stream (src, error, failing_since) VALUES (%s, %s, now())
        ON CONFLICT (src) DO UPDATE SET error = excluded.error, failing_since =
            coalesce(label_stream.failing_since, excluded.failing_since)
        """,
        (src, error.replace("\0", "")[:MAX_ERROR_CHARS]),
    )


def note_connected(conn: Conn, src: int) -> None:
    """Forget the errors before a connect."""
    conn.execute(
        "UPDATE label_stream SET error = NULL, failing_since = NULL"
        " WHERE src = %s AND failing_since IS NOT NULL",
        (src,),
    )


def forget_watching(conn: Conn, kept: Sequence[int]) -> None:
    """Forget the state of streams that are followed no more: `kept` are followed."""
    conn.execute(
        "UPDATE label_stream SET error = NULL, failing_since = NULL, seen_at = NULL"
        " WHERE src <> ALL(%s)",
        ([*kept],),
    )


@dataclass(frozen=True, slots=True)
class StreamHealth:
    """Times in seconds of the stream of a labeler; None: it does not fail."""

    labeler: str
    failing_s: float | None
    silent_s: float | None
    error: str | None


def unhealthy_streams(
    conn: Conn, failing_s: float, silent_s: float
) -> list[StreamHealth]:
    """Return streams that fail for long, or sent nothing for long."""
    return fetch_all(
        conn,
        StreamHealth,
        """
        SELECT * FROM (
            SELECT a.did AS labeler, s.error,
                extract(epoch FROM now() - s.failing_since)::float8 AS failing_s,
                extract(epoch FROM now() - s.seen_at)::float8 AS silent_s
            FROM label_stream s JOIN actor a ON a.id = s.src
        ) AS found
        WHERE failing_s > %s OR silent_s > %s ORDER BY labeler
        """,
        (failing_s, silent_s),
    )


def count_faults(conn: Conn, src: int, counts: Mapping[LabelFault, int]) -> None:
    """Count dropped labels of a labeler. Does not commit."""
    if counts:
        conn.execute(
            """
            INSERT INTO label_drop (src, reason, n)
            SELECT %s, * FROM unnest(%s::text[], %s::int8[])
            ON CONFLICT (src, reason) DO UPDATE
            SET n = label_drop.n + excluded.n, last_at = now()
            """,
            (src, [str(reason) for reason in counts], [*counts.values()]),
        )


def stream_states(conn: Conn, dids: Sequence[str]) -> list[dict[str, Any]]:
    """Return the progress of these labelers, for operators, in their order.

    `silent_s` is the time since the last message.
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            """
            SELECT w.did, a.handle, coalesce(s.seq, 0) AS seq,
                coalesce(s.labels, 0) AS labels, s.newest_cts, s.seen_at, s.error,
                extract(epoch FROM now() - s.seen_at)::float8 AS silent_s,
                coalesce((SELECT jsonb_object_agg(d.reason, d.n) FROM label_drop d
                          WHERE d.src = a.id), '{}') AS drops,
                coalesce(a.upstream_status, %s) AS status
            FROM unnest(%s::text[]) WITH ORDINALITY AS w (did, place)
            LEFT JOIN actor a ON a.did = w.did
            LEFT JOIN label_stream s ON s.src = a.id
            ORDER BY w.place
            """,
            (STATUS_ACTIVE, [*dids]),
        ).fetchall()
