"""The one table of edges: bulk writes by partition, and backlinks a page at a time.

A named partition has no index on (actor, rkey): its rows are found from their target,
which is known from the record that made them. That keeps a like edge under 120 bytes.
`link_default` holds paths of lexicons nobody knows and is found from its source.
Edges are sorted by `sort_at`, the earlier of the record's `createdAt` and the time it
was indexed, never by the time in a record key, which an author can choose.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from storage.collections import FOLLOW_SUBJECT, LINK_PARTITIONS
from storage.postgres.arrays import int_columns
from storage.postgres.copy import copy_packed, fixed_packer
from storage.postgres.instants import from_micros, micros_sql, to_micros
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
"""Partitions that have an index on the account a link is of."""
PARTITION_OF: Final[dict[int, str]] = {
    path: name for name, paths in LINK_PARTITIONS.items() for path in paths
}

MAX_SORTED_LINKS: Final = 5_000
"""Up to so many links of a target are shown newest first; of more, in the order of
their source's number, which an index gives at the same cost however many there are."""
PG_EPOCH_US: Final = 946_684_800_000_000
"""PostgreSQL's zero of time, in microseconds since 1970."""
_SORT_US: Final = micros_sql("l.sort_at")

# A few rows are left for Postgres to route: one statement in place of one a partition.
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
"""A LinkRow where making one would cost too much."""


class LinkSource(NamedTuple):
    """The record an edge comes from. Its collection is that of the path."""

    actor: int
    rkey: int
    sort_us: int
    """Microseconds since 1970."""

    @property
    def sort_at(self) -> datetime:
        """The earlier of the record's createdAt and the time it was indexed."""
        return from_micros(self.sort_us)


LinkPage = tuple[list[LinkSource], list[int] | None]
"""Links, and `after` of the next page; None at the end."""


def pg_time(moment: datetime) -> int:
    """Return microseconds since 2000, which is how PostgreSQL stores a time."""
    return to_micros(moment) - PG_EPOCH_US


def partition_of(path: int) -> str:
    """The table that holds links of a path."""
    return PARTITION_OF.get(path, DEFAULT_PARTITION)


def pack_link(row: LinkTuple, sort_at: int) -> bytes:
    """One row for `copy_links`; `sort_at` is a `pg_time`."""
    rkey, target_rkey, actor, target_actor, target_collection, path = row
    # fmt: off
    return _ROW.pack(
        7, 8, rkey, 8, sort_at, 8, target_rkey, 4, actor,
        4, target_actor, 4, target_collection, 4, path,
    )
    # fmt: on


def unpack_link(packed: bytes) -> tuple[LinkRow, int]:
    """What `pack_link` packed."""
    rkey, sort_at, *others = _ROW.unpack(packed)[2::2]
    return LinkRow(rkey, *others), sort_at


def link_subject(packed: bytes) -> bytes:
    """All of a packed row but its record key and its time."""
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
    """As `pack_link`, by the column: links of one path."""
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
    """Remove exactly these edges of named partitions; return those that were there."""
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
    """Remove all links of records (actor, collection, rkey) from the default
    partition; return how many there were."""
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
    """Remove what is left of an account's links, in all partitions where an index finds
    it and in others of up to `most_bytes`: reading those whole for each account that
    goes would cost the more the more all others have."""
    for partition in (*LINK_PARTITIONS, DEFAULT_PARTITION):
        if partition in BY_SOURCE or _size(conn, partition) <= most_bytes:
            conn.execute(f"DELETE FROM {partition} WHERE actor = %s", (actor,))


def _size(conn: Conn, partition: str) -> int:
    row = conn.execute("SELECT pg_relation_size(%s)", (partition,)).fetchone()
    assert row is not None
    return int(row[0])


def find_wrong_links(
    conn: Conn,
    partition: str,
    rows: Sequence[tuple[LinkRow, int]],
) -> tuple[list[LinkRow], int]:
    """Return those of these edges of a partition, each named once, that are missing or
    later than their times (`pg_time`), and how many are there too often.

    An edge may be earlier: it was indexed before its `createdAt`. One that was written
    before edges had times has that of its record key.
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
    """Partition -> edges that an account made. Reads whole tables: named partitions
    have no index by source."""
    rows = conn.execute(
        "SELECT tableoid::regclass::text, count(*) FROM link"
        " WHERE actor = %s GROUP BY 1",
        (actor,),
    )
    return dict(rows.fetchall())


def count_default_links_of(conn: Conn, actor: int) -> int:
    """Edges of unknown lexicons that an account made, by their index."""
    row = conn.execute(
        f"SELECT count(*) FROM {DEFAULT_PARTITION} WHERE actor = %s", (actor,)
    ).fetchone()
    assert row is not None
    return int(row[0])


def links_size(conn: Conn) -> int:
    """Bytes of all edges on disk, without their indexes."""
    row = conn.execute(
        "SELECT sum(pg_relation_size(relid))::int8 FROM pg_partition_tree('link')"
        " WHERE isleaf"
    ).fetchone()
    return int(row[0]) if row is not None and row[0] is not None else 0


def find_packed(
    conn: Conn,
    path: int,
    target: tuple[int, int, int],
    *,
    limit: int,
) -> dict[LinkRow, bytes]:
    """Return up to `limit` edges to `target`, and how `copy_links` takes them."""
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


def find_links(
    conn: Conn,
    path: int,
    target: tuple[int, int, int],
    *,
    limit: int,
    after: Sequence[int] | None = None,
) -> LinkPage:
    """Return a page of sources that link to `target` = (actor, collection, rkey).

    Newest first, or by source beyond MAX_SORTED_LINKS. The second value is `after` of
    the next page, None at the end.
    """
    actor, collection, rkey = target
    where = (
        "l.path = %(path)s AND l.target_rkey = %(target_rkey)s"
        " AND l.target_actor = %(target_actor)s"
        " AND l.target_collection = %(target_collection)s"
    )
    values = {
        "path": path,
        "target_rkey": rkey,
        "target_actor": actor,
        "target_collection": collection,
    }
    return _page(conn, partition_of(path), "l.actor", where, values, limit, after)


def find_followers(
    conn: Conn,
    actor: int,
    *,
    limit: int,
    after: Sequence[int] | None = None,
) -> LinkPage:
    """Return a page of the accounts that follow `actor`, newest first however many
    there are: their index is in that order."""
    where = (
        "l.path = %(path)s AND l.target_actor = %(actor)s AND l.target_rkey = 0"
        " AND l.target_collection = 0"
    )
    values = {"path": FOLLOW_SUBJECT, "actor": actor}
    return _page(
        conn, "link_follow", "l.actor", where, values, limit, after, by_time=True
    )


def find_follows(
    conn: Conn,
    actor: int,
    *,
    limit: int,
    after: Sequence[int] | None = None,
) -> LinkPage:
    """Return a page of the accounts that `actor` follows, as `find_links` does.

    `LinkSource.actor` is the account that is followed.
    """
    where = (
        "l.path = %(path)s AND l.actor = %(actor)s AND l.target_rkey = 0"
        " AND l.target_collection = 0"
    )
    values = {"path": FOLLOW_SUBJECT, "actor": actor}
    return _page(conn, "link_follow", "l.target_actor", where, values, limit, after)


def _page(
    conn: Conn,
    partition: str,
    other: str,
    where: str,
    values: Mapping[str, int],
    limit: int,
    after: Sequence[int] | None,
    *,
    by_time: bool = False,
) -> LinkPage:
    keyset = ""
    position: dict[str, Any] = {}
    if after is None:
        most = MAX_SORTED_LINKS
        many = 0 if by_time else _count_up_to(conn, partition, where, values, most + 1)
        mode = int(many > most)
    else:
        mode, *key = after
        compare = (
            f"(l.sort_at, {other}, l.rkey) < (%(sort_at)s, %(key)s, %(rkey)s)",
            f"({other}, l.rkey) > (%(key)s, %(rkey)s)",
        )
        keyset = f"AND {compare[mode]}"
        position = {"key": key[-2], "rkey": key[-1]}
        if mode == 0:
            position["sort_at"] = from_micros(key[0])
    order = (f"l.sort_at DESC, {other} DESC, l.rkey DESC", f"{other}, l.rkey")[mode]
    rows = conn.execute(
        f"""
        SELECT {other}, l.rkey, {_SORT_US} FROM {partition} l
        WHERE {where} {keyset} ORDER BY {order} LIMIT %(limit)s
        """,
        {**values, **position, "limit": limit + 1},
    ).fetchall()
    sources = [LinkSource(*row) for row in rows[:limit]]
    if len(rows) <= limit:
        return sources, None
    return sources, _keyset(mode, sources[-1])


def link_keyset(
    page: LinkPage, after: Sequence[int] | None, link: LinkSource
) -> list[int]:
    """Return `after` of the page that begins behind a link of `page`.

    `after` is the one that `page` was read with.
    """
    _, following = page
    # A first page with nothing behind it is short, and so in the order of time.
    mode = (after or following or (0,))[0]
    return _keyset(mode, link)


def _keyset(mode: int, link: LinkSource) -> list[int]:
    if mode == 0:
        return [0, link.sort_us, link.actor, link.rkey]
    return [1, link.actor, link.rkey]


def _count_up_to(
    conn: Conn,
    partition: str,
    where: str,
    values: Mapping[str, int],
    most: int,
) -> int:
    row = conn.execute(
        f"SELECT count(*) FROM (SELECT FROM {partition} l WHERE {where}"
        " LIMIT %(most)s) AS counted",
        {**values, "most": most},
    ).fetchone()
    assert row is not None
    return int(row[0])
