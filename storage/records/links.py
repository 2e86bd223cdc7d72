"""The table of edges: bulk writes by partition, deletes, and checks.

A named partition has no index on (actor, rkey): its rows are found by their target,
which their record names. That keeps a like edge under 120 bytes. `link_default` holds
paths of unknown lexicons and is indexed by source.

Edges are sorted by `sort_at`, the earlier of `createdAt` and the time of indexing,
never by the time in a record key, which authors choose.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from storage.collections import LINK_PARTITIONS
from storage.postgres.arrays import int_columns
from storage.postgres.copy import copy_packed, fixed_packer
from storage.postgres.fetch import fetch_int
from storage.postgres.instants import micros_sql, to_micros
from storage.postgres.pool import Conn

COLUMNS: Final = (
    "rkey",
    "sort_at",
    "target_rkey",
    "actor",
    "target_actor",
    "target_collection",
    "path",
)
DEFAULT_PARTITION: Final = "link_default"
BY_SOURCE: Final = frozenset(
    ("link_repost", "link_follow", "link_block", "link_listblock", DEFAULT_PARTITION)
)
"""Partitions with an index by source account."""
PARTITION_OF: Final[dict[int, str]] = {
    path: name for name, paths in LINK_PARTITIONS.items() for path in paths
}

PG_EPOCH_US: Final = 946_684_800_000_000
"""PostgreSQL's epoch, in microseconds since 1970."""
_SORT_US: Final = micros_sql("l.sort_at")

# Postgres routes a few rows: one statement instead of one a partition.
_ROUTED_ROWS: Final = 500
_ROW: Final = fixed_packer(("int8", "int8", "int8", "int4", "int4", "int4", "int4"))
_EDGE: Final = fixed_packer(("int8", "int8", "int8", "int4", "int4"))
_EDGE_END: Final = struct.Struct(">iiii")
_SUBJECT_AT: Final = struct.calcsize(">hiqiq")


class LinkRow(NamedTuple):
    """One edge: COLUMNS without its time."""

    rkey: int
    target_rkey: int
    actor: int
    target_actor: int
    target_collection: int
    path: int


LinkTuple = tuple[int, int, int, int, int, int]
"""A LinkRow without the cost of making one."""


def pg_time(moment: datetime) -> int:
    """Return microseconds since 2000, as PostgreSQL stores a time."""
    return to_micros(moment) - PG_EPOCH_US


def partition_of(path: int) -> str:
    return PARTITION_OF.get(path, DEFAULT_PARTITION)


def pack_link(row: LinkTuple, sort_at: int) -> bytes:
    """Pack one row for `copy_links`; `sort_at` is a `pg_time`."""
    rkey, target_rkey, actor, target_actor, target_collection, path = row
    # fmt: off
    return _ROW.pack(
        7, 8, rkey, 8, sort_at, 8, target_rkey, 4, actor,
        4, target_actor, 4, target_collection, 4, path,
    )
    # fmt: on


def unpack_link(packed: bytes) -> tuple[LinkRow, int]:
    """Return the row and the time that `pack_link` packed."""
    rkey, sort_at, *others = _ROW.unpack(packed)[2::2]
    return LinkRow(rkey, *others), sort_at


def link_subject(packed: bytes) -> bytes:
    """Return a packed row without its record key and its time."""
    return packed[_SUBJECT_AT:]


def pack_edges(
    path: int,
    target_collection: int,
    rkeys: Sequence[int],
    target_rkeys: Sequence[int],
    times: Sequence[int],
    actors: Sequence[int],
    target_actors: Sequence[int],
) -> list[bytes]:
    """Pack links of one path by column."""
    pack = _EDGE.pack
    end = _EDGE_END.pack(4, target_collection, 4, path)
    return [
        pack(7, 8, rkey, 8, at, 8, target_rkey, 4, actor, 4, target) + end
        for rkey, target_rkey, at, actor, target in zip(
            rkeys, target_rkeys, times, actors, target_actors, strict=True
        )
    ]


def copy_links(conn: Conn, packed: Mapping[str, Sequence[bytes]]) -> None:
    """Append packed rows: partition -> rows."""
    if sum(map(len, packed.values())) <= _ROUTED_ROWS:
        routed = [row for rows in packed.values() for row in rows]
        copy_packed(conn, "link", COLUMNS, routed)
        return
    for partition in sorted(packed):
        copy_packed(conn, partition, COLUMNS, packed[partition])


def delete_links(conn: Conn, rows: Iterable[LinkTuple]) -> list[LinkRow]:
    """Remove exactly these edges of named partitions; return those that existed."""
    by_partition: dict[str, list[LinkTuple]] = {}
    for row in rows:
        by_partition.setdefault(PARTITION_OF[row[5]], []).append(row)
    removed: list[LinkRow] = []
    for partition in sorted(by_partition):
        found = conn.execute(
            f"""
            DELETE FROM {partition} l USING unnest(
                %s::int8[], %s::int8[], %s::int4[], %s::int4[], %s::int4[], %s::int4[]
            ) AS d (rkey, target_rkey, actor, target_actor, target_collection, path)
            WHERE l.target_rkey = d.target_rkey AND l.target_actor = d.target_actor
              AND l.actor = d.actor AND l.rkey = d.rkey AND l.path = d.path
              AND l.target_collection = d.target_collection
            RETURNING l.rkey, l.target_rkey, l.actor, l.target_actor,
                l.target_collection, l.path
            """,
            int_columns(by_partition[partition], 6),
        )
        removed.extend(map(LinkRow._make, found.fetchall()))
    return removed


def delete_default_links(conn: Conn, sources: Sequence[tuple[int, int, int]]) -> int:
    """Remove all links of records (actor, collection, rkey) from the default partition.

    Returns their number.
    """
    if not sources:
        return 0
    return conn.execute(
        """
        DELETE FROM link_default l USING
            unnest(%s::int4[], %s::int4[], %s::int8[]) AS d (actor, collection, rkey)
        WHERE l.actor = d.actor AND l.rkey = d.rkey
          AND (SELECT p.collection FROM path p WHERE p.id = l.path) = d.collection
        """,
        int_columns(sources, 3),
    ).rowcount


def delete_links_of(conn: Conn, actor: int, *, most_bytes: int) -> None:
    """Remove the remaining links of an account.

    Partitions without an index by source are scanned only up to `most_bytes`: a scan
    costs more the larger the whole network is.
    """
    for partition in (*LINK_PARTITIONS, DEFAULT_PARTITION):
        if partition in BY_SOURCE or _size(conn, partition) <= most_bytes:
            conn.execute(f"DELETE FROM {partition} WHERE actor = %s", (actor,))


def _size(conn: Conn, partition: str) -> int:
    return fetch_int(conn, "SELECT pg_relation_size(%s)", (partition,))


def find_wrong_links(
    conn: Conn, partition: str, rows: Sequence[tuple[LinkRow, int]]
) -> tuple[list[LinkRow], int]:
    """Return the missing edges of a partition, and the number of surplus ones.

    Each edge occurs once in `rows`, with its `pg_time`. A stored edge that is later
    counts as missing. It may be earlier: it was indexed before its `createdAt`. One
    from before edges had times has that of its record key.
    """
    found = conn.execute(
        f"""
        SELECT d.place - 1, count(*) FROM unnest(
            %s::int8[], %s::int8[], %s::int4[], %s::int4[], %s::int4[], %s::int4[],
            %s::int8[]
        ) WITH ORDINALITY AS d (
            rkey, target_rkey, actor, target_actor, target_collection, path, sort_at,
            place
        )
        JOIN {partition} l
          ON l.target_rkey = d.target_rkey AND l.target_actor = d.target_actor
          AND l.actor = d.actor AND l.rkey = d.rkey AND l.path = d.path
          AND l.target_collection = d.target_collection
          AND (l.rkey < 0 OR {_SORT_US} <=
              greatest(d.sort_at + {PG_EPOCH_US}, l.rkey >> 10))
        GROUP BY 1
        """,
        int_columns([(*row, sort_at) for row, sort_at in rows], 7),
    )
    times = dict(found.fetchall())
    missing = [row for place, (row, _) in enumerate(rows) if place not in times]
    return missing, sum(times.values()) - len(times)


def count_links_of(conn: Conn, actor: int) -> dict[str, int]:
    """Return partition -> number of an account's edges. Scans whole tables."""
    rows = conn.execute(
        "SELECT tableoid::regclass::text, count(*) FROM link"
        " WHERE actor = %s GROUP BY 1",
        (actor,),
    )
    return dict(rows.fetchall())


def count_default_links_of(conn: Conn, actor: int) -> int:
    """Count an account's edges in the default partition, by their index."""
    return fetch_int(
        conn, f"SELECT count(*) FROM {DEFAULT_PARTITION} WHERE actor = %s", (actor,)
    )


def links_size(conn: Conn) -> int:
    """Return the bytes of all edges on disk, without their indexes."""
    row = conn.execute(
        "SELECT sum(pg_relation_size(relid))::int8 FROM pg_partition_tree('link')"
        " WHERE isleaf"
    ).fetchone()
    return int(row[0]) if row is not None and row[0] is not None else 0


def find_packed(
    conn: Conn, path: int, target: tuple[int, int, int], *, limit: int
) -> dict[LinkRow, bytes]:
    """Return up to `limit` edges to `target`, with their packed form."""
    actor, collection, rkey = target
    rows = conn.execute(
        f"""
        SELECT {", ".join(f"l.{name}" for name in LinkRow._fields)},
            {_SORT_US} - {PG_EPOCH_US} FROM {partition_of(path)} l
        WHERE l.path = %s AND l.target_rkey = %s AND l.target_actor = %s
          AND l.target_collection = %s LIMIT %s
        """,
        (path, rkey, actor, collection, limit),
    )
    found: dict[LinkRow, bytes] = {}
    for *row, sort_at in rows:
        edge = LinkRow._make(row)
        found[edge] = pack_link(edge, sort_at)
    return found
