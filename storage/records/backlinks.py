"""Pages of links: sources of a target, followers, follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from storage.collections import BLOCK_SUBJECT, FOLLOW_SUBJECT
from storage.postgres.fetch import fetch_int
from storage.postgres.instants import from_micros, micros_sql
from storage.postgres.pool import Conn
from storage.records.links import partition_of

MAX_SORTED_LINKS: Final = 5_000
"""Links of a target are shown newest first up to this many, otherwise in the order of
their sources' ids, which costs an index the same for any number."""
_SORT_US: Final = micros_sql("l.sort_at")
_BY_TIME: Final = frozenset({"link_reply_parent", "link_quote"})
"""Partitions whose index has the links of a target by time."""
_MODE_OF_MANY: Final = {
    **dict.fromkeys(("link_default", "link_reply_root"), 2),
    **dict.fromkeys(("link_listitem", "link_via"), 2),
}
"""Order of many links: their index has them by record key."""


class LinkSource(NamedTuple):
    """The record that an edge comes from; its collection is that of the path."""

    actor: int
    rkey: int
    sort_us: int
    """Microseconds since 1970."""

    @property
    def sort_at(self) -> datetime:
        """Return the earlier of the record's createdAt and the time it was indexed."""
        return from_micros(self.sort_us)


LinkPage = tuple[list[LinkSource], list[int] | None]
"""Links, and `after` of the next page, None at the end."""


def find_links(
    conn: Conn,
    path: int,
    target: tuple[int, int, int],
    *,
    limit: int,
    after: Sequence[int] | None = None,
    of: Sequence[int] | None = None,
) -> LinkPage:
    """Return a page of sources that link to `target` = (actor, collection, rkey).

    Newest first, or by source beyond MAX_SORTED_LINKS; only those of the accounts `of`,
    if given. The second value is `after` of the next page, None at the end.
    """
    actor, collection, rkey = target
    where = (
        "l.path = %(path)s AND l.target_rkey = %(target_rkey)s"
        " AND l.target_actor = %(target_actor)s"
        " AND l.target_collection = %(target_collection)s"
    )
    values: dict[str, Any] = {
        "path": path,
        "target_rkey": rkey,
        "target_actor": actor,
        "target_collection": collection,
    }
    if of is not None:
        where += " AND l.actor = ANY(%(of)s)"
        values["of"] = [*of]
    partition = partition_of(path)
    by_time = partition in _BY_TIME and of is None
    return _page(
        conn, partition, "l.actor", where, values, limit, after, by_time=by_time
    )


def find_followers(
    conn: Conn, actor: int, *, limit: int, after: Sequence[int] | None = None
) -> LinkPage:
    """Return a page of accounts that follow `actor`, always newest first."""
    where = (
        "l.path = %(path)s AND l.target_actor = %(actor)s AND l.target_rkey = 0"
        " AND l.target_collection = 0"
    )
    values = {"path": FOLLOW_SUBJECT, "actor": actor}
    return _page(
        conn, "link_follow", "l.actor", where, values, limit, after, by_time=True
    )


def find_follows(
    conn: Conn, actor: int, *, limit: int, after: Sequence[int] | None = None
) -> LinkPage:
    """Return a page of accounts that `actor` follows, as `find_links` does.

    `LinkSource.actor` is the followed account.
    """
    return _accounts_of(conn, FOLLOW_SUBJECT, actor, limit, after)


def find_blocks(
    conn: Conn, actor: int, *, limit: int, after: Sequence[int] | None = None
) -> LinkPage:
    """Return a page of accounts that `actor` blocks by record, as `find_follows`
    does."""
    return _accounts_of(conn, BLOCK_SUBJECT, actor, limit, after)


def _accounts_of(
    conn: Conn, path: int, actor: int, limit: int, after: Sequence[int] | None
) -> LinkPage:
    where = (
        "l.path = %(path)s AND l.actor = %(actor)s AND l.target_rkey = 0"
        " AND l.target_collection = 0"
    )
    values = {"path": path, "actor": actor}
    partition = partition_of(path)
    return _page(conn, partition, "l.target_actor", where, values, limit, after)


def _page(
    conn: Conn,
    partition: str,
    other: str,
    where: str,
    values: Mapping[str, Any],
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
        mode = _MODE_OF_MANY.get(partition, 1) if many > most else 0
    else:
        mode, *key = after
        compare = (
            f"(l.sort_at, {other}, l.rkey) < (%(sort_at)s, %(key)s, %(rkey)s)",
            f"({other}, l.rkey) > (%(key)s, %(rkey)s)",
            f"(l.rkey, {other}) < (%(rkey)s, %(key)s)",
        )
        keyset = f"AND {compare[mode]}"
        position = {"key": key[-2], "rkey": key[-1]}
        if mode == 0:
            position["sort_at"] = from_micros(key[0])
    order = (
        f"l.sort_at DESC, {other} DESC, l.rkey DESC",
        f"{other}, l.rkey",
        f"l.rkey DESC, {other} DESC",
    )[mode]
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
    # A first page without a second is short, and so in the order of time.
    mode = (after or following or (0,))[0]
    return _keyset(mode, link)


def _keyset(mode: int, link: LinkSource) -> list[int]:
    if mode == 0:
        return [0, link.sort_us, link.actor, link.rkey]
    return [mode, link.actor, link.rkey]


def _count_up_to(
    conn: Conn, partition: str, where: str, values: Mapping[str, Any], most: int
) -> int:
    return fetch_int(
        conn,
        f"SELECT count(*) FROM (SELECT FROM {partition} l WHERE {where}"
        " LIMIT %(most)s) AS counted",
        {**values, "most": most},
    )
