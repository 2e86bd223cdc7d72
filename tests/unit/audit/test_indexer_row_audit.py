"""Derived rows that were corrupted: found by the audit and repaired by a fetch."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from indexer_steps import import_repo
from indexer_world import (
    CREATED,
    FOLLOW,
    NOW,
    POST,
    PROFILE,
    REPOST,
    Author,
    author,
    follow,
    like,
    post,
    profile,
    quote,
    reply,
    repost,
)

from audit.repair import clear_repo
from audit.repo_audit import audit_repo, recount_stats
from audit.row_audit import audit_rows, audit_whole
from indexer.apply import apply_batch
from indexer.collections.registry import ROW_TABLES
from indexer.links import MAX_LINKS
from storage.collections import LINK_PARTITIONS
from storage.postgres.pool import Conn
from storage.records.interning import Interner
from storage.records.links import DEFAULT_PARTITION
from storage.records.rows import RowTable

LIST = "app.bsky.graph.list"
NOTE = "org.example.note"


def everything(a: Author, b: Author) -> dict[str, Any]:
    """Write a record of every collection with rows, and every kind of edge."""
    hello = f"{POST}/3kaaaaaaaaa2b"
    listed, item = a.uri(f"{LIST}/friends"), "app.bsky.graph.listitem"
    mention = {
        "index": {"byteStart": 0, "byteEnd": 2},
        "features": [{"$type": "app.bsky.richtext.facet#mention", "did": b.did}],
    }
    via = like(b.uri(hello)) | {"via": {"uri": a.uri(f"{REPOST}/x"), "cid": "x"}}
    return {
        hello: post("hello", langs=["en"]),
        f"{POST}/3kaaaaaaaaa2c": reply(b.uri(hello), b.uri(hello)),
        f"{POST}/3kaaaaaaaaa2d": quote(b.uri(hello)),
        f"{POST}/3kaaaaaaaaa2e": post("@b", facets=[mention]),
        f"{POST}/bad": {"$type": POST, "text": 7},
        f"{PROFILE}/self": profile("A") | {"description": "about"},
        "app.bsky.feed.like/3kaaaaaaaaa2f": like(b.uri(hello)),
        "app.bsky.feed.like/3kaaaaaaaaa2g": via,
        f"{REPOST}/3kaaaaaaaaa2h": repost(b.uri(hello)),
        f"{FOLLOW}/3kaaaaaaaaa2i": follow(b.did),
        "app.bsky.graph.block/3kaaaaaaaaa2j": {
            **follow(b.did), "$type": "app.bsky.graph.block",
        },
        f"{LIST}/friends": {
            "$type": LIST, "purpose": "app.bsky.graph.defs#curatelist",
            "name": "Friends", "description": "d", "createdAt": CREATED,
        },
        f"{item}/3kaaaaaaaaa2k": {
            "$type": item, "subject": b.did, "list": listed, "createdAt": CREATED,
        },
        "app.bsky.graph.listblock/3kaaaaaaaaa2l": {
            "$type": "app.bsky.graph.listblock", "subject": listed,
            "createdAt": CREATED,
        },
        "app.bsky.graph.starterpack/pack": {
            "$type": "app.bsky.graph.starterpack", "name": "Pack", "list": listed,
            "description": "d", "createdAt": CREATED,
        },
        "app.bsky.feed.generator/feed": {
            "$type": "app.bsky.feed.generator", "did": "did:web:feeds.example.com",
            "displayName": "Feed", "description": "d", "createdAt": CREATED,
        },
        "app.bsky.labeler.service/self": {
            "$type": "app.bsky.labeler.service", "policies": {"labelValues": []},
            "createdAt": CREATED,
        },
        f"{NOTE}/a": {"$type": NOTE, "about": b.did, "see": b.uri(hello)},
    }  # fmt: skip


@pytest.fixture
def two(apply: Any) -> list[Author]:
    a, b = author(1), author(3)
    for someone, other in ((a, b), (b, a)):
        apply(someone.commit(everything(someone, other)))
    return [a, b]


def right(conn: Conn, interner: Interner, *authors: Author) -> bool:
    return all(audit_whole(conn, interner, each.did).ok for each in authors)


def run(conn: Conn, statement: str, *values: Any) -> int:
    with conn.transaction():
        return conn.execute(statement, values).rowcount  # type: ignore[arg-type]


def rows(conn: Conn, table: str) -> list[tuple[Any, ...]]:
    found = conn.execute(f"SELECT * FROM {table}").fetchall()
    conn.rollback()
    return sorted(found, key=repr)


def check(conn: Conn, interner: Interner, a: Author, table: str) -> None:
    """Check that only this table is reported."""
    assert audit_repo(conn, a.did).ok, "the records themselves are right"
    found = audit_rows(conn, interner, a.did)
    assert not found.ok, table
    assert {name for name, n in found.wrong.items() if n} == {table}
    whole = audit_whole(conn, interner, a.did)
    assert not whole.ok
    assert table in (whole.fault or "")


def recounted(conn: Conn) -> bool:
    """Recount, since counts were bypassed."""
    recount_stats(conn, repair=True)
    return recount_stats(conn).ok


def mend(conn: Conn, interner: Interner, a: Author) -> None:
    clear_repo(conn, interner, a.did, NOW, "wrong")
    import_repo(conn, interner, a)


def other_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value - timedelta(days=1)
    if isinstance(value, list):
        return [*value, "xx"]
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, bytes):
        return value + b"x"
    return 1 if value is None else value + 1


# Types that a NULL does not show.
EMPTY = {"avatar": b"x", "banner": b"x", "langs": ["xx"], "created_at": NOW}


@pytest.mark.parametrize("table", ROW_TABLES, ids=lambda table: table.name)
def test_a_wrong_value_of_each_column(
    conn: Conn, interner: Interner, two: list[Author], table: RowTable
) -> None:
    a, b = two
    assert right(conn, interner, a, b)
    before = rows(conn, table.name)
    actor = interner.actors([a.did])[a.did]
    key = "actor = %s" + ("" if table.single else " AND rkey = %s")
    place = f" FROM {table.name} WHERE actor = {actor} LIMIT 1"
    for column in table.columns:
        if column in ("actor", "rkey", "indexed_at"):
            continue
        columns = "actor" if table.single else "actor, rkey"
        row = conn.execute(f"SELECT {column}, {columns}{place}").fetchone()
        conn.rollback()
        assert row is not None, f"{table.name} has no row to make wrong"
        wrong = EMPTY.get(column) if row[0] is None else other_value(row[0])
        change = f"UPDATE {table.name} SET {column} = %s WHERE {key}"
        assert run(conn, change, 1 if wrong is None else wrong, *row[1:]) == 1
        check(conn, interner, a, table.name)
        assert right(conn, interner, b)
        run(conn, change, *row)
        assert right(conn, interner, a)
    assert run(conn, f"DELETE FROM {table.name} WHERE actor = %s", actor) >= 1
    check(conn, interner, a, table.name)
    mend(conn, interner, a)
    assert right(conn, interner, a, b)
    assert rows(conn, table.name) == before
    assert recounted(conn)


@pytest.mark.parametrize(
    "table", [t for t in ROW_TABLES if not t.single], ids=lambda table: table.name
)
def test_a_row_of_no_record(
    conn: Conn, interner: Interner, two: list[Author], table: RowTable
) -> None:
    a = two[0]
    actor = interner.actors([a.did])[a.did]
    columns = ", ".join(table.columns)
    moved = columns.replace("rkey", "rkey + 77", 1)
    assert run(
        conn,
        f"INSERT INTO {table.name} ({columns}) SELECT {moved} FROM {table.name}"
        " WHERE actor = %s LIMIT 1",
        actor,
    )
    check(conn, interner, a, table.name)
    mend(conn, interner, a)
    assert right(conn, interner, *two)


EDGES = {
    "gone": "DELETE FROM {0} WHERE {1}",
    "to another record": "UPDATE {0} SET target_rkey = target_rkey + 1 WHERE {1}",
    "to another account": "UPDATE {0} SET target_actor = target_actor + 1 WHERE {1}",
    "to another collection":
        "UPDATE {0} SET target_collection = target_collection + 1 WHERE {1}",
    "from another record": "UPDATE {0} SET rkey = rkey + 1 WHERE {1}",
    "later": "UPDATE {0} SET sort_at = sort_at + interval '1 us' WHERE {1}",
    "twice": "INSERT INTO {0} SELECT * FROM {0} WHERE {1}",
}  # fmt: skip


@pytest.mark.parametrize("partition", [*LINK_PARTITIONS, DEFAULT_PARTITION])
def test_a_wrong_edge_of_each_partition(
    conn: Conn, interner: Interner, two: list[Author], partition: str
) -> None:
    a, b = two
    actor = interner.actors([a.did])[a.did]
    one = f"ctid = (SELECT min(ctid) FROM {partition} WHERE actor = {actor})"
    before = rows(conn, "link")
    for name, statement in EDGES.items():
        if name == "later" and partition == DEFAULT_PARTITION:
            continue  # its record says nothing
        assert right(conn, interner, a, b)
        assert run(conn, statement.format(partition, one)) == 1, name
        # Surplus edges are not searched; missing and changed ones are.
        cheap = audit_rows(conn, interner, a.did, most_link_bytes=0)
        assert not cheap.ok, name
        check(conn, interner, a, partition)
        mend(conn, interner, a)
        assert rows(conn, "link") == before
    assert recounted(conn)


def test_surplus_edge_by_scan(
    conn: Conn, interner: Interner, two: list[Author]
) -> None:
    a, b = two
    actor = interner.actors([a.did])[a.did]
    for partition, cheap in (("link_like", True), (DEFAULT_PARTITION, False)):
        run(
            conn,
            f"INSERT INTO {partition} SELECT rkey + 9, target_rkey, actor,"
            f" target_actor, target_collection, path, sort_at FROM {partition}"
            f" WHERE actor = {actor} LIMIT 1",
        )
        assert audit_rows(conn, interner, a.did, most_link_bytes=0).ok is cheap
        check(conn, interner, a, partition)
        mend(conn, interner, a)
        assert right(conn, interner, a, b)


def test_wrong_index_errors(conn: Conn, interner: Interner, two: list[Author]) -> None:
    a, b = two
    actor = interner.actors([a.did])[a.did]
    assert run(conn, "UPDATE index_error SET reason = 'in other words'") == 2
    assert right(conn, interner, a, b)
    assert run(conn, "DELETE FROM index_error WHERE actor = %s", actor) == 1
    check(conn, interner, a, "index_error")
    mend(conn, interner, a)
    assert right(conn, interner, a, b)
    run(
        conn,
        "INSERT INTO index_error SELECT actor, collection, rkey, 'x' FROM record"
        f" WHERE actor = {actor} AND rkey = (SELECT max(rkey) FROM record)",
    )
    check(conn, interner, a, "index_error")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM collection_repo WHERE actor = %s",
        "INSERT INTO collection_repo (actor, collection) VALUES (%s, 99999)",
    ],
)
def test_wrong_collections_of_a_repo(
    conn: Conn, interner: Interner, two: list[Author], statement: str
) -> None:
    a, b = two
    actor = interner.actors([a.did])[a.did]
    before = rows(conn, "collection_repo")
    assert run(conn, statement, actor) >= 1
    check(conn, interner, a, "collection_repo")
    mend(conn, interner, a)
    assert right(conn, interner, a, b)
    assert rows(conn, "collection_repo") == before


def test_row_keeps_first_time(
    conn: Conn, interner: Interner, two: list[Author]
) -> None:
    a, b = two
    for table in ROW_TABLES:
        if table.dated:
            run(conn, f"UPDATE {table.name} SET indexed_at = %s", NOW + timedelta(9))
    assert right(conn, interner, a, b), "no record says when it was seen"
    # A post's sort time cannot be later than both its times.
    run(conn, "UPDATE post SET indexed_at = created_at - interval '1 day'")
    check(conn, interner, a, "post")


def test_rows_are_independent_of_their_batch(conn: Conn, interner: Interner) -> None:
    a, b = author(0), author(1)
    target = b.uri(f"{POST}/3kaaaaaaaaa2b")
    # The reply stands behind so many links that none is taken any more.
    many = [f"did:web:h{number}.example.com" for number in range(MAX_LINKS)]
    _, first = a.write(POST, reply(target, target) | {"all": many})
    _, second = b.write(POST, reply(target, target))
    apply_batch(conn, interner, [first, second], {1: 1}, NOW)
    found = audit_rows(conn, interner, a.did)
    assert found.ok, found.describe()
