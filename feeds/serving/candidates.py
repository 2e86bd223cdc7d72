"""Candidates: the stored records of each recipe, newest first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from storage.postgres.arrays import int_columns
from storage.postgres.instants import from_micros, micros_sql, to_micros
from storage.postgres.pool import Conn
from storage.records.addresses import Address

MAX_CANDIDATES: Final = 50_000
"""Records that are kept for one recipe, the newest."""
_PRUNED_AT_ONCE: Final = 10_000


class Key(NamedTuple):
    """The place of a candidate: time in microseconds, then the address."""

    at: int
    actor: int
    collection: int
    rkey: int

    @property
    def address(self) -> Address:
        """Return the record."""
        return Address(self.actor, self.collection, self.rkey)


END: Final = Key(253_402_300_799_000_000, 0, 0, 0)
"""A key before the first candidate."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record that some of the sources found, one bit each."""

    key: Key
    sources: int


def put_candidates(conn: Conn, found: Collection[tuple[int, Candidate]]) -> None:
    """Store pairs of a recipe's candidates and a record. Does not commit."""
    if not found:
        return
    merged: dict[tuple[int, Key], int] = {}
    for feed, candidate in found:
        place = (feed, candidate.key)
        merged[place] = merged.get(place, 0) | candidate.sources
    # Sorted, so that two writers lock rows in the same order.
    rows = sorted((feed, *key, sources) for (feed, key), sources in merged.items())
    times = [from_micros(row[1]) for row in rows]
    conn.execute(
        """
        INSERT INTO feed_candidate (feed, actor, collection, rkey, sources, sort_at)
        SELECT * FROM unnest(%s::int8[], %s::int4[], %s::int4[], %s::int8[],
                             %s::int4[], %s::timestamptz[]) AS x
        ON CONFLICT (feed, sort_at, actor, collection, rkey)
            DO UPDATE SET sources = feed_candidate.sources | excluded.sources
        """,
        (*int_columns([(row[0], *row[2:]) for row in rows], 5), times),
    )


def remove_candidates(
    conn: Conn, records: Collection[Address], accounts: Collection[int]
) -> None:
    """Remove records and all of some accounts from every recipe. Does not commit."""
    if records:
        conn.execute(
            """
            DELETE FROM feed_candidate c USING
                unnest(%s::int4[], %s::int4[], %s::int8[]) AS x (a, n, k)
            WHERE c.actor = x.a AND c.collection = x.n AND c.rkey = x.k
            """,
            int_columns(sorted(records), 3),
        )
    if accounts:
        conn.execute(
            "DELETE FROM feed_candidate WHERE actor = ANY(%s)", (sorted(accounts),)
        )


def read_candidates(
    conn: Conn, feed: int, after: Key, oldest: datetime, limit: int
) -> list[Candidate]:
    """Return the next candidates below a key that are not older than `oldest`."""
    rows = conn.execute(
        f"""
        SELECT {micros_sql("sort_at")}, actor, collection, rkey, sources
        FROM feed_candidate
        WHERE feed = %s AND sort_at >= %s
          AND (sort_at, actor, collection, rkey) < (%s, %s, %s, %s)
        ORDER BY sort_at DESC, actor DESC, collection DESC, rkey DESC LIMIT %s
        """,
        (feed, oldest, from_micros(after.at), *after[1:], limit),
    )
    return [Candidate(Key(*row[:4]), row[4]) for row in rows]


def find_candidate(conn: Conn, feed: int, record: Address) -> Candidate | None:
    """Return a record as a candidate of a recipe, None if it is none."""
    row = conn.execute(
        f"""
        SELECT {micros_sql("sort_at")}, sources FROM feed_candidate
        WHERE actor = %s AND collection = %s AND rkey = %s AND feed = %s
        ORDER BY sort_at DESC LIMIT 1
        """,
        (*record, feed),
    ).fetchone()
    return None if row is None else Candidate(Key(row[0], *record), row[1])


def prune_candidates(conn: Conn, feed: int, before: datetime) -> int:
    """Delete some candidates older than `before` or beyond the newest ones. Commits."""
    with conn.transaction():
        last = conn.execute(
            "SELECT sort_at FROM feed_candidate WHERE feed = %s"
            " ORDER BY sort_at DESC OFFSET %s LIMIT 1",
            (feed, MAX_CANDIDATES),
        ).fetchone()
        bound = before if last is None else max(before, last[0])
        return conn.execute(
            """
            DELETE FROM feed_candidate c USING (
                SELECT feed, sort_at, actor, collection, rkey FROM feed_candidate
                WHERE feed = %s AND sort_at < %s ORDER BY sort_at LIMIT %s
            ) old
            WHERE c.feed = old.feed AND c.sort_at = old.sort_at
              AND c.actor = old.actor AND c.collection = old.collection
              AND c.rkey = old.rkey
            """,
            (feed, bound, _PRUNED_AT_ONCE),
        ).rowcount


def drop_unused(conn: Conn, used: Sequence[int]) -> int:
    """Delete some candidates of recipes that are gone. Commits."""
    with conn.transaction():
        gone = [
            feed
            for (feed,) in conn.execute("SELECT feed FROM feed_fill")
            if feed not in set(used)
        ]
        if not gone:
            return 0
        deleted = conn.execute(
            "DELETE FROM feed_candidate WHERE ctid = ANY(ARRAY("
            "  SELECT ctid FROM feed_candidate WHERE feed = %s LIMIT %s))",
            (gone[0], _PRUNED_AT_ONCE),
        ).rowcount
        if deleted < _PRUNED_AT_ONCE:
            conn.execute("DELETE FROM feed_fill WHERE feed = %s", (gone[0],))
        return deleted + 1


def key_of(at: datetime, record: Address) -> Key:
    """Return the key of a record."""
    return Key(to_micros(at), *record)
