"""Records of a collection, network-wide, newest indexed first.

Most collections are in `listed_record`, written with the records. Posts are listed by
their own table, and records that are one edge account by account: a row for each like
would double its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from storage.collections import (
    COLLECTION_IDS,
    FEED_LIKE,
    FEED_POST,
    FEED_POSTGATE,
    FEED_REPOST,
    FEED_THREADGATE,
    GRAPH_BLOCK,
    GRAPH_FOLLOW,
    GRAPH_LISTBLOCK,
    GRAPH_LISTITEM,
)
from storage.postgres.arrays import int_columns
from storage.postgres.copy import copy_packed, fixed_packer
from storage.postgres.instants import from_micros, micros_sql, to_micros
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.links import PG_EPOCH_US

_POST: Final = COLLECTION_IDS[FEED_POST]
BY_ACCOUNT: Final = frozenset(
    COLLECTION_IDS[nsid]
    for nsid in (
        FEED_LIKE,
        FEED_REPOST,
        FEED_THREADGATE,
        FEED_POSTGATE,
        GRAPH_FOLLOW,
        GRAPH_BLOCK,
        GRAPH_LISTITEM,
        GRAPH_LISTBLOCK,
    )
)
"""Collections that are listed account by account, the newest account first."""
_FIRST_STEP: Final = 16
_LARGEST_STEP: Final = 4_096
_STEPS: Final = 24
"""Steps over accounts, each twice the one before: 65,000 accounts are looked at."""
_LAST: Final = 2**63 - 1
"""Behind every record key."""
_COLUMNS: Final = ("rkey", "indexed_at", "actor", "collection")
_ROW: Final = fixed_packer(("int8", "int8", "int4", "int4"))


class Listed(NamedTuple):
    """A listed record; the next page begins after its `keyset`."""

    address: Address | None
    """None fills a page whose accounts have no such records."""
    indexed_us: int | None
    """Microseconds since 1970, None in a collection listed by account."""
    keyset: list[int]


def copy_listed(
    conn: Conn,
    addresses: Sequence[tuple[int, int, int]],
    now: datetime,
    first_seen: Mapping[tuple[int, int, int], int],
) -> None:
    """Append records; one in `first_seen` keeps its time (microseconds)."""
    if not addresses:
        return
    now_us = to_micros(now)
    rows = []
    for address in addresses:
        actor, collection, rkey = address
        at = first_seen.get(address, now_us) - PG_EPOCH_US
        rows.append(_ROW.pack(4, 8, rkey, 8, at, 4, actor, 4, collection))
    copy_packed(conn, "listed_record", _COLUMNS, rows)


def delete_listed(
    conn: Conn, addresses: Sequence[tuple[int, int, int]]
) -> dict[tuple[int, int, int], int]:
    """Remove records; return the times at which they were first indexed."""
    if not addresses:
        return {}
    rows = conn.execute(
        f"""
        DELETE FROM listed_record l USING
            unnest(%s::int4[], %s::int4[], %s::int8[]) AS d (actor, collection, rkey)
        WHERE l.actor = d.actor AND l.collection = d.collection AND l.rkey = d.rkey
        RETURNING l.actor, l.collection, l.rkey, {micros_sql("l.indexed_at")}
        """,
        int_columns(addresses, 3),
    )
    return {(actor, collection, rkey): at for actor, collection, rkey, at in rows}


def fetch_listed(
    conn: Conn, addresses: Iterable[tuple[int, int, int]]
) -> dict[Address, datetime]:
    """Return the times at which listed records and posts were first indexed."""
    wanted = [*addresses]
    if not wanted:
        return {}
    rows = conn.execute(
        """
        SELECT x.a, x.c, x.k, coalesce(l.indexed_at, p.indexed_at)
        FROM unnest(%s::int4[], %s::int4[], %s::int8[]) AS x (a, c, k)
        LEFT JOIN listed_record l
          ON l.actor = x.a AND l.collection = x.c AND l.rkey = x.k
        LEFT JOIN post p ON x.c = %s AND p.actor = x.a AND p.rkey = x.k
        WHERE coalesce(l.indexed_at, p.indexed_at) IS NOT NULL
        """,
        (*int_columns(wanted, 3), _POST),
    )
    return {Address(a, c, k): at for a, c, k, at in rows}


def list_records(
    conn: Conn, collection: int, *, limit: int, after: Sequence[int] | None
) -> list[Listed]:
    """Return the next records of a collection, newest indexed first.

    Fewer than `limit` are the last. An update keeps its place, so a record is neither
    repeated nor left out while others are written.
    """
    if collection in BY_ACCOUNT:
        return _list_by_account(conn, collection, limit, after)
    table, column, where = (
        "listed_record",
        "indexed_at",
        "l.collection = %(collection)s",
    )
    if collection == _POST:
        table, column, where = "post", "sort_at", "true"
    values: dict[str, Any] = {"collection": collection, "limit": limit}
    if after is not None:
        where += f" AND (l.{column}, l.actor, l.rkey) < (%(at)s, %(actor)s, %(rkey)s)"
        values |= {"at": from_micros(after[0]), "actor": after[1], "rkey": after[2]}
    rows = conn.execute(
        f"""
        SELECT l.actor, l.rkey, {micros_sql(f"l.{column}")} FROM {table} l
        WHERE {where}
        ORDER BY l.{column} DESC, l.actor DESC, l.rkey DESC LIMIT %(limit)s
        """,
        values,
    )
    return [
        Listed(Address(actor, collection, rkey), at, [at, actor, rkey])
        for actor, rkey, at in rows
    ]


def _list_by_account(
    conn: Conn, collection: int, limit: int, after: Sequence[int] | None
) -> list[Listed]:
    found: list[Listed] = []
    actor, rkey = (after[0], after[1]) if after else (2**31 - 1, _LAST)
    accounts = _FIRST_STEP
    for _ in range(_STEPS):
        values = {
            "actor": actor,
            "rkey": rkey,
            "accounts": accounts,
            "collection": collection,
            "limit": limit - len(found),
        }
        *hits, (last, _) = conn.execute(_WALK, values).fetchall()
        for hit, key in hits:
            found.append(Listed(Address(hit, collection, key), None, [hit, key]))
        if len(found) >= limit or last is None:
            return found
        actor, rkey = last - 1, _LAST
        accounts = min(2 * accounts, _LARGEST_STEP)
    found += [Listed(None, None, [actor, rkey])] * (limit - len(found))
    return found


_WALK: Final = """
    WITH accounts AS MATERIALIZED (
        SELECT actor FROM repo WHERE actor <= %(actor)s
        ORDER BY actor DESC LIMIT %(accounts)s
    ), found AS (
        SELECT a.actor, r.rkey FROM accounts a CROSS JOIN LATERAL (
            SELECT rkey FROM record
            WHERE record.actor = a.actor AND collection = %(collection)s
              AND (a.actor < %(actor)s OR rkey < %(rkey)s)
            ORDER BY rkey DESC LIMIT %(limit)s
        ) r
        ORDER BY a.actor DESC, r.rkey DESC LIMIT %(limit)s
    )
    SELECT actor, rkey FROM found UNION ALL SELECT min(actor), NULL FROM accounts
"""
