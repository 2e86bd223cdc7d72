"""Lexicons of other people's records: documents, plans, and what must be read anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from psycopg.types.json import Jsonb

from storage.collections import FIRST_FREE_ID
from storage.postgres.instants import from_micros, micros_sql
from storage.postgres.pool import Conn
from storage.postgres.text import clean_text

FOLDER: Final = "folder"
NETWORK: Final = "network"
UNKNOWN: Final = "unknown"
_MAX_ERROR_CHARS: Final = 300


class StoredLexicon(NamedTuple):
    """A lexicon as stored. `document` is its JSON, None if it was not found."""

    nsid: str
    source: str
    document: str | None
    refs: tuple[str, ...]
    error: str | None


def fetch_plans(conn: Conn, nsids: Sequence[str]) -> dict[str, Any]:
    """Return NSID -> plan of lexicons that have one."""
    rows = conn.execute(
        "SELECT nsid, plan FROM lexicon WHERE nsid = ANY(%s) AND plan IS NOT NULL",
        ([*nsids],),
    )
    return dict(rows.fetchall())


def fetch_lexicons(conn: Conn, nsids: Iterable[str]) -> dict[str, StoredLexicon]:
    """Return stored lexicons by NSID."""
    rows = conn.execute(
        "SELECT nsid, source, document, refs, error FROM lexicon WHERE nsid = ANY(%s)",
        ([*nsids],),
    )
    return {
        row[0]: StoredLexicon(row[0], row[1], row[2], tuple(row[3]), row[4])
        for row in rows.fetchall()
    }


def list_lexicons(conn: Conn, *, limit: int) -> list[StoredLexicon]:
    """Return stored lexicons with a document, by NSID."""
    rows = conn.execute(
        "SELECT nsid, source, document, refs, error FROM lexicon"
        " WHERE document IS NOT NULL ORDER BY nsid LIMIT %s",
        (limit,),
    )
    return [
        StoredLexicon(row[0], row[1], row[2], tuple(row[3]), row[4]) for row in rows
    ]


def find_dependents(conn: Conn, nsid: str, *, limit: int) -> list[str]:
    """Return the lexicons that refer to another one."""
    rows = conn.execute(
        "SELECT nsid FROM lexicon WHERE refs @> ARRAY[%s::text] ORDER BY nsid LIMIT %s",
        (nsid, limit),
    )
    return [name for (name,) in rows]


def put_lexicon(
    conn: Conn,
    nsid: str,
    source: str,
    document: str,
    plan: Any,
    refs: Sequence[str],
) -> bool:
    """Store a lexicon; return True if its plan changed. Does not commit.

    The documents of its records are then made again (`requeue_step`).
    """
    row = conn.execute(
        """
        INSERT INTO lexicon AS l (nsid, source, document, plan, refs, requeue)
        VALUES (%(nsid)s, %(source)s, %(document)s, %(plan)s, %(refs)s,
            CASE WHEN %(plan)s::jsonb IS NULL THEN NULL ELSE '[]'::jsonb END)
        ON CONFLICT (nsid) DO UPDATE SET source = excluded.source,
            document = excluded.document, refs = excluded.refs, error = NULL,
            fetched_at = now(), plan = excluded.plan,
            requeue = CASE WHEN l.plan IS NOT DISTINCT FROM excluded.plan
                THEN l.requeue ELSE '[]'::jsonb END
        RETURNING requeue IS NOT DISTINCT FROM '[]'::jsonb
        """,
        {
            "nsid": nsid,
            "source": source,
            "document": document,
            "plan": None if plan is None else Jsonb(plan),
            "refs": sorted(refs),
        },
    ).fetchone()
    return row is not None and bool(row[0])


def note_unknown(conn: Conn, nsids: Iterable[str]) -> list[str]:
    """Store lexicons that are not known yet; return the new ones. Does not commit."""
    rows = conn.execute(
        "INSERT INTO lexicon (nsid, source) SELECT unnest(%s::text[]), %s"
        " ON CONFLICT DO NOTHING RETURNING nsid",
        (sorted({*nsids}), UNKNOWN),
    )
    return [nsid for (nsid,) in rows]


def note_failure(conn: Conn, nsid: str, error: str) -> None:
    """Store why a lexicon was not found; a document that is there stays."""
    conn.execute(
        "UPDATE lexicon SET error = %s, fetched_at = now() WHERE nsid = %s",
        (clean_text(error, _MAX_ERROR_CHARS), nsid),
    )


def new_collections(conn: Conn, after: int, *, limit: int) -> list[tuple[int, str]]:
    """Return the next collections (id, NSID) that the code does not know."""
    return conn.execute(
        "SELECT id, nsid FROM collection WHERE id > %s ORDER BY id LIMIT %s",
        (max(after, FIRST_FREE_ID - 1), limit),
    ).fetchall()


def requeue_step(conn: Conn, *, limit: int) -> int:
    """Queue the next search documents of collections with a new plan; return their
    number. Does not commit.
    """
    row = conn.execute(
        "SELECT nsid, requeue FROM lexicon WHERE requeue IS NOT NULL"
        " ORDER BY nsid LIMIT 1 FOR UPDATE SKIP LOCKED"
    ).fetchone()
    if row is None:
        return 0
    nsid, after = row
    values: dict[str, Any] = {"nsid": nsid, "limit": limit}
    keyset = ""
    if after:
        keyset = "AND (l.indexed_at, l.actor, l.rkey) < (%(at)s, %(actor)s, %(rkey)s)"
        values |= {"at": from_micros(after[0]), "actor": after[1], "rkey": after[2]}
    rows = conn.execute(
        f"""
        WITH page AS (
            SELECT l.actor, l.collection, l.rkey, l.indexed_at FROM listed_record l
            WHERE l.collection = (SELECT id FROM collection WHERE nsid = %(nsid)s)
                {keyset}
            ORDER BY l.indexed_at DESC, l.actor DESC, l.rkey DESC LIMIT %(limit)s
        ), queued AS (
            INSERT INTO search_outbox (actor, collection, rkey)
            SELECT actor, collection, rkey FROM page
        )
        SELECT {micros_sql("indexed_at")}, actor, rkey FROM page
        ORDER BY indexed_at, actor, rkey
        """,
        values,
    ).fetchall()
    last = Jsonb([*rows[0]]) if len(rows) == limit else None
    conn.execute("UPDATE lexicon SET requeue = %s WHERE nsid = %s", (last, nsid))
    return len(rows)
