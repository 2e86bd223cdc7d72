"""Stored labels, and the progress of each labeler's stream.

The newest label of a source on a subject is kept, by `cts`, also if it is a negation or
has expired. So labels may arrive in any order, and more than once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from psycopg.rows import dict_row

from labels.signed_label import LabelFault, SignedLabel
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
            seen_at = excluded.seen_at, error = NULL
        """,
        (src, seq, len(rows), max((row[7] for row in rows), default=None)),
    )


def restart_stream(conn: Conn, src: int) -> None:
    """Read a stream from its start: its numbers have begun anew."""
    conn.execute("UPDATE label_stream SET seq = 0 WHERE src = %s", (src,))


def note_error(conn: Conn, src: int, error: str | None) -> None:
    """Keep the last error of a stream for operators; None after a connect."""
    text = None if error is None else error.replace("\0", "")[:MAX_ERROR_CHARS]
    conn.execute(
        "INSERT INTO label_stream (src, error) VALUES (%s, %s)"
        " ON CONFLICT (src) DO UPDATE SET error = excluded.error",
        (src, text),
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
