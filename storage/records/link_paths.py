"""Links to any target by their source: collection, path, and counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from storage.collections import (
    NO_ACTOR,
    NO_COLLECTION,
    NO_RKEY,
    PATHS,
)
from storage.postgres.pool import Conn
from storage.records.addresses import (
    find_collections,
    find_record_keys,
)
from storage.records.interning import MAX_PATHS_A_COLLECTION
from storage.records.links import DEFAULT_PARTITION, partition_of
from storage.records.web_urls import url_number

Target = tuple[int, int, int]
"""Actor, collection and record key of a link's target; see storage.schema."""
MAX_PATHS: Final = MAX_PATHS_A_COLLECTION
MAX_COUNTED: Final = 10_000
"""Links that are counted one by one."""
_WHERE: Final = (
    "l.target_rkey = %(target_rkey)s AND l.target_actor = %(target_actor)s"
    " AND l.target_collection = %(target_collection)s"
)


class LinkPath(NamedTuple):
    """A place of links: collection and path, as `.subject.uri`."""

    id: int
    nsid: str
    path: str

    @property
    def source(self) -> str:
        """Return it as clients write it: `collection:subject.uri`."""
        return f"{self.nsid}:{self.path.removeprefix('.')}"


class LinkCount(NamedTuple):
    """Links and their accounts; `capped` if more than were counted exist."""

    links: int
    accounts: int
    capped: bool


def find_target(
    conn: Conn, actor: int, nsid: str | None, rkey: str | None
) -> Target | None:
    """Return a target of an account; None if a name is unknown."""
    if nsid is None:
        return actor, NO_COLLECTION, NO_RKEY
    collection = find_collections(conn, {nsid}).get(nsid)
    if collection is None:
        return None
    if rkey is None:
        return actor, collection, NO_RKEY
    number = find_record_keys(conn, {rkey}).get(rkey)
    return None if number is None else (actor, collection, number)


def url_target(url: str) -> Target:
    """Return the target that a web address is."""
    return NO_ACTOR, NO_COLLECTION, url_number(url)


def find_paths(conn: Conn, nsid: str, path: str | None) -> list[LinkPath]:
    """Return the path of a collection, or all its paths; nothing if unknown."""
    collection = find_collections(conn, {nsid}).get(nsid)
    if collection is None:
        return []
    rows = conn.execute(
        "SELECT id, path FROM path WHERE collection = %(collection)s"
        " AND (%(path)s::text IS NULL OR path = %(path)s) ORDER BY id LIMIT %(most)s",
        {"collection": collection, "path": path, "most": MAX_PATHS},
    )
    return [LinkPath(number, nsid, text) for number, text in rows]


def find_paths_to(conn: Conn, target: Target) -> list[LinkPath]:
    """Return the paths of all links to a target, at most MAX_PATHS."""
    values = _values(target)
    known = " UNION ALL ".join(
        f"SELECT {path} WHERE EXISTS (SELECT FROM {partition_of(path)} l"
        f" WHERE l.path = {path} AND {_WHERE})"
        for path in PATHS
        if partition_of(path) != DEFAULT_PARTITION
    )
    # A skip scan: as many index probes as the target has paths.
    rows = conn.execute(
        f"""
        WITH RECURSIVE other (path) AS (
            (SELECT l.path FROM {DEFAULT_PARTITION} l
             WHERE {_WHERE} ORDER BY l.path LIMIT 1)
            UNION ALL
            SELECT (SELECT l.path FROM {DEFAULT_PARTITION} l
                    WHERE {_WHERE} AND l.path > other.path ORDER BY l.path LIMIT 1)
            FROM other WHERE other.path IS NOT NULL
        ), found (id) AS (
            {known} UNION ALL (SELECT path FROM other WHERE path IS NOT NULL
                               LIMIT {MAX_PATHS})
        )
        SELECT path.id, nsid, path.path FROM found JOIN path USING (id)
        JOIN collection ON collection.id = path.collection ORDER BY path.id
        """,
        values,
    )
    return [LinkPath(*row) for row in rows]


def count_links_to(
    conn: Conn, path: int, target: Target, *, most: int = MAX_COUNTED
) -> LinkCount:
    """Count the links with a path to a target, up to `most`."""
    row = conn.execute(
        f"""
        SELECT count(*), count(DISTINCT actor) FROM (
            SELECT l.actor FROM {partition_of(path)} l
            WHERE l.path = %(path)s AND {_WHERE} LIMIT %(most)s) AS counted
        """,
        {**_values(target), "path": path, "most": most + 1},
    ).fetchone()
    links, accounts = row or (0, 0)
    if links <= most:
        return LinkCount(links, accounts, False)
    return LinkCount(most, min(accounts, most), True)


def find_accounts(
    conn: Conn, path: int, target: Target, *, limit: int, after: int | None
) -> list[int]:
    """Return accounts that link to a target, the newest account first."""
    rows = conn.execute(
        f"""
        SELECT DISTINCT l.actor FROM {partition_of(path)} l
        WHERE l.path = %(path)s AND {_WHERE} AND l.actor < %(after)s
        ORDER BY l.actor DESC LIMIT %(limit)s
        """,
        {
            **_values(target),
            "path": path,
            "after": 2**31 - 1 if after is None else after,
            "limit": limit,
        },
    )
    return [actor for (actor,) in rows]


def _values(target: Target) -> Mapping[str, int]:
    actor, collection, rkey = target
    return {
        "target_actor": actor,
        "target_collection": collection,
        "target_rkey": rkey,
    }
