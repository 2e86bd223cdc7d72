"""Copies of the posts in a search index at other times, to make it large."""

from __future__ import annotations

import psycopg

from bench.index import Index
from bench.metric import Progress
from bench.search.posts import START
from search.engines.postgres.slices import (
    CAPS,
    READ_SLICES,
    put_rows,
    slices_of,
)
from storage.postgres.pool import Conn

_STRIDE = 100_000_000
"""Distance of the record keys of two copies."""


def multiply(index: Index, first: int, last: int, progress: Progress) -> None:
    """Add the copies `first` up to `last` of all posts with numbers below a stride.

    A copy has the text, author and reactions of its post. It is placed and moved as any
    post is.
    """
    for number in range(first, last):
        with psycopg.connect(index.url) as conn:
            conn.execute("SET maintenance_work_mem = '256MB'")
            _copy(conn, number)
        with index.pool.connection() as conn:
            rebalance(conn)
            conn.execute(
                "UPDATE search_word SET documents = documents * %s / %s",
                (number + 1, number),
            )
        progress.count("copies", number, last - 1)


def _copy(conn: Conn, number: int) -> None:
    conn.execute(
        f"""
        CREATE TEMPORARY TABLE copied AS
        SELECT rkey + {number * _STRIDE} AS rkey,
               %s::timestamptz + random() * interval '365 days' AS ts,
               actor, collection, tsv
        FROM search_document WHERE rkey < {_STRIDE}
        """,
        (START,),
    )
    conn.execute(
        f"""
        INSERT INTO post_stats (actor, rkey, likes)
        SELECT actor, rkey + {number * _STRIDE}, likes FROM post_stats
        WHERE rkey < {_STRIDE}
        """
    )
    place_copied(conn)


def place_copied(conn: Conn) -> None:
    """Move the documents of the temporary table `copied` to their slices."""
    newer = "true"
    slices = slices_of(conn.execute(READ_SLICES).fetchall())
    for one in slices:
        bound = "true"
        if one.bound is not None:
            bound = f"ts > to_timestamp({one.bound.micros / 1e6!r})"
        added = conn.execute(
            f"INSERT INTO {one.table} (rkey, ts, actor, collection, tsv)"
            f" SELECT * FROM copied WHERE {newer} AND {bound}"
        ).rowcount
        conn.execute(
            "UPDATE search_slice SET documents = documents + %s WHERE slice = %s",
            (added, one.number),
        )
        if one.bound is None:
            break
        newer = f"NOT {bound}"
    conn.execute("DROP TABLE copied")


def rebalance(conn: Conn) -> None:
    """Pass on documents until no slice has more than its share."""
    while True:
        slices = slices_of(conn.execute(READ_SLICES).fetchall())
        pairs = zip(slices, CAPS, strict=False)
        if all(one.documents - cap < CAPS[0] // 128 for one, cap in pairs):
            return
        put_rows(conn, [], CAPS)
