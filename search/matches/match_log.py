"""Log of matches, in the order of their numbers.

Numbers are assigned under the lock of one counter, which is held until the commit. So a
number becomes visible after all lower ones, and is never assigned again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from storage.postgres.arrays import int_columns
from storage.postgres.fetch import fetch_int
from storage.postgres.pool import Conn
from storage.records.addresses import Address

_PRUNED_AT_ONCE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Match:
    """A record that a saved search found, by the number of the search."""

    number: int
    search: int
    address: Address
    matched_at: datetime

    def __len__(self) -> int:
        """Return the size in memory, for readers that keep recent ones."""
        return 200


def append_matches(
    conn: Conn, found: Sequence[tuple[int, Address]], now: datetime
) -> None:
    """Log pairs of a search and a record, in order. Does not commit.

    Call it late in a transaction: others that log wait for its end.
    """
    if not found:
        return
    last = fetch_int(
        conn,
        "UPDATE search_match_counter SET last = last + %s RETURNING last",
        (len(found),),
    )
    numbers = range(last - len(found) + 1, last + 1)
    conn.execute(
        """
        INSERT INTO search_match (number, search, actor, collection, rkey, matched_at)
        SELECT x.*, %s FROM unnest(%s::int8[], %s::int8[], %s::int4[], %s::int4[],
                                   %s::int8[]) AS x
        """,
        (
            now,
            *int_columns(
                [
                    (number, search, *address)
                    for number, (search, address) in zip(numbers, found, strict=True)
                ],
                5,
            ),
        ),
    )


def load_tail(conn: Conn) -> int:
    """Return the last number, 0 before the first."""
    return fetch_int(conn, "SELECT last FROM search_match_counter")


def load_oldest(conn: Conn) -> int:
    """Return the lowest kept number, or the next one if none is kept."""
    return fetch_int(
        conn,
        "SELECT coalesce((SELECT min(number) FROM search_match),"
        " (SELECT last + 1 FROM search_match_counter))",
    )


def matches_after(conn: Conn, number: int, limit: int) -> list[Match]:
    """Return the next matches of all searches above `number`."""
    rows = conn.execute(
        "SELECT number, search, actor, collection, rkey, matched_at FROM search_match"
        " WHERE number > %s ORDER BY number LIMIT %s",
        (number, limit),
    )
    return [_match(*row) for row in rows]


def matches_of(
    conn: Conn, searches: Sequence[int], after: int, until: int, limit: int
) -> list[Match]:
    """Return the next matches of some searches above `after`, up to `until`."""
    rows = conn.execute(
        """
        SELECT m.* FROM unnest(%(searches)s::int8[]) AS s (search)
        CROSS JOIN LATERAL (
            SELECT number, search, actor, collection, rkey, matched_at
            FROM search_match
            WHERE search = s.search AND number > %(after)s AND number <= %(until)s
            ORDER BY number LIMIT %(limit)s
        ) m ORDER BY m.number LIMIT %(limit)s
        """,
        {
            "searches": [*dict.fromkeys(searches)],
            "after": after,
            "until": until,
            "limit": limit,
        },
    )
    return [_match(*row) for row in rows]


def prune_matches(conn: Conn, *, before: datetime, keep: int) -> int:
    """Delete matches older than `before` and those beyond the newest `keep`. Commits.

    Returns the number of deleted ones.
    """
    gone = 0
    while True:
        with conn.transaction():
            some = conn.execute(
                """
                DELETE FROM search_match WHERE number IN (
                    SELECT number FROM (
                        SELECT number, matched_at FROM search_match
                        ORDER BY number LIMIT %s
                    ) AS oldest
                    WHERE number <= (SELECT last FROM search_match_counter) - %s
                       OR matched_at < %s
                )
                """,
                (_PRUNED_AT_ONCE, keep, before),
            ).rowcount
        gone += some
        if some < _PRUNED_AT_ONCE:
            return gone


def _match(
    number: int, search: int, actor: int, collection: int, rkey: int, at: datetime
) -> Match:
    return Match(number, search, Address(actor, collection, rkey), at)


def find_next(conn: Conn, positions: Mapping[int, int]) -> set[int]:
    """Return the searches that have a match behind their position."""
    rows = conn.execute(
        """
        SELECT search FROM unnest(%s::int8[], %s::int8[]) AS p (search, position)
        WHERE EXISTS (
            SELECT FROM search_match m
            WHERE m.search = p.search AND m.number > p.position
        )
        """,
        int_columns([*positions.items()], 2),
    )
    return {search for (search,) in rows}
