"""Pages of edges, deletes, counts, and whole repos in order."""

from __future__ import annotations

from typing import Any

import pytest

from storage.collections import (
    FOLLOW_SUBJECT,
    LIKE_SUBJECT,
    LINK_PARTITIONS,
    QUOTE,
    RKEY_SELF,
)
from storage.postgres.pool import Conn
from storage.records import backlinks
from storage.records.addresses import Address
from storage.records.backlinks import (
    LinkSource,
    find_followers,
    find_follows,
    find_links,
)
from storage.records.links import (
    copy_links,
    delete_default_links,
    delete_links,
    pack_link,
    partition_of,
)
from storage.records.record_rows import (
    copy_records,
    delete_records,
    fetch_records,
    iter_repo,
    pack_records,
)
from storage.records.stats import (
    FOLLOWERS,
    LIKES,
    StatsChange,
    apply_stats,
    fetch_post_stats,
    fetch_subject_likes,
)

POST = 1
TARGET = (7, POST, 1_000)


def put(conn: Conn, *rows: tuple[int, ...], sort_at: int | None = None) -> None:
    """Insert edges sorted by their keys, or all of one time."""
    packed: dict[str, list[bytes]] = {}
    for *row, path in rows:
        at = row[0] if sort_at is None else sort_at
        packed.setdefault(partition_of(path), []).append(pack_link((*row, path), at))  # type: ignore[arg-type]
    copy_links(conn, packed)


def like(actor: int, rkey: int, target: tuple[int, int, int] = TARGET) -> Any:
    return (rkey, target[2], actor, target[0], target[1], LIKE_SUBJECT)


def pages(conn: Conn, limit: int) -> list[LinkSource]:
    found: list[LinkSource] = []
    after = None
    while True:
        page, after = find_links(conn, LIKE_SUBJECT, TARGET, limit=limit, after=after)
        found += page
        if after is None:
            return found
        assert len(page) == limit


def test_backlinks_newest_first(conn: Conn) -> None:
    rows = [like(actor, 5_000 + (actor * 37) % 40) for actor in range(1, 41)]
    put(conn, *rows, like(3, 9, (7, POST, 1_001)), like(3, 9, (8, POST, 1_000)))
    found = pages(conn, 7)
    assert [source.rkey for source in found] == list(range(5_039, 4_999, -1))
    assert find_links(conn, LIKE_SUBJECT, (9, POST, 9), limit=5) == ([], None)


def test_backlinks_of_popular(conn: Conn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlinks, "MAX_SORTED_LINKS", 10)
    rows = [like(actor, 9_000 - actor) for actor in range(1, 31)]
    put(conn, *rows, like(4, 1))
    found = pages(conn, 4)
    assert found == sorted(found)
    assert len(found) == 31


def test_backlinks_of_one_time_are_each_on_one_page(conn: Conn) -> None:
    put(conn, *(like(actor, rkey) for actor in (1, 2, 3) for rkey in (7, 8, -9)),
        sort_at=-(2**55))  # fmt: skip
    for limit in (1, 2, 4, 9):
        found = pages(conn, limit)
        assert len(found) == len(set(found)) == 9
        assert {source.sort_at.year for source in found} == {858}


def test_follows_sort_by_time(conn: Conn, monkeypatch: pytest.MonkeyPatch) -> None:
    def follows(find: Any, actor: int) -> list[int]:
        found, after = [], None
        while True:
            page, after = find(conn, actor, limit=2, after=after)
            found += [source.actor for source in page]
            if after is None:
                return found

    for place, other in enumerate((5, 9, 6, 8, 7)):
        # The key of the first is the highest of all, and says nothing.
        rkey = 2**62 if place == 0 else -place
        put(conn, (rkey, 0, 1, other, 0, FOLLOW_SUBJECT), sort_at=place)
        put(conn, (rkey, 0, other, 1, 0, FOLLOW_SUBJECT), sort_at=place)
    assert follows(find_follows, 1) == follows(find_followers, 1) == [7, 8, 6, 9, 5]
    assert follows(find_follows, 2) == follows(find_followers, 2) == []
    monkeypatch.setattr(backlinks, "MAX_SORTED_LINKS", 3)
    assert follows(find_follows, 1) == [5, 6, 7, 8, 9]
    assert follows(find_followers, 1) == [7, 8, 6, 9, 5]


def test_only_named_edges_are_deleted(conn: Conn) -> None:
    rows = [
        (50, 1_000, 1, 7, POST, path)
        for paths in LINK_PARTITIONS.values()
        for path in paths
    ]
    twin = (51, 1_000, 1, 7, POST, QUOTE)
    put(conn, *rows, twin)
    missing = (52, 1_000, 1, 7, POST, QUOTE)
    removed = delete_links(conn, [*rows, missing])
    assert sorted(removed) == sorted(rows)
    left = conn.execute("SELECT rkey FROM link").fetchall()
    assert left == [(51,)]


def test_default_links_go_by_their_source(conn: Conn) -> None:
    conn.execute("INSERT INTO path (id, collection, path) VALUES (5000, 77, '.a')")
    conn.execute("INSERT INTO path (id, collection, path) VALUES (5001, 78, '.a')")
    put(conn, (9, 1, 1, 2, 0, 5000), (9, 1, 1, 3, 0, 5000), (9, 1, 1, 2, 0, 5001))
    assert delete_default_links(conn, [(1, 77, 9), (1, 77, 8), (2, 77, 9)]) == 2
    assert conn.execute("SELECT path FROM link").fetchall() == [(5001,)]


def test_every_partition_finds_its_edges_by_an_index(conn: Conn) -> None:
    """No query of the module may scan a partition."""
    conn.execute("SET enable_seqscan = off")
    for name, (path, *_) in LINK_PARTITIONS.items():
        # Every index of an empty table costs the same.
        put(conn, *((n, 1_000 + n % 9, n % 7, 7, POST, path) for n in range(1, 2_000)))
        plan = conn.execute(
            f"EXPLAIN SELECT FROM {name} WHERE target_rkey = 1 AND target_actor = 2 "
            f"AND actor = 3 AND rkey = 4 AND path = {path}"
        ).fetchall()
        text = "\n".join(line for (line,) in plan)
        assert "Index Cond: " in text, f"{name}: {text}"
        condition = text.split("Index Cond: ")[1].split("\n")[0]
        # An account and one more: never all edges of an account.
        assert condition.count(" = ") >= 2, f"{name}: {condition}"


def test_records(conn: Conn) -> None:
    addresses = [(1, 1, 10), (1, 1, 11), (1, 1, -1), (1, 2, 10), (2, 1, 10)]
    values = [b"value %d" % n for n in range(len(addresses))]
    copy_records(conn, pack_records(addresses, values))
    found = fetch_records(conn, [*addresses, (1, 2, 11)])
    assert len(found) == 5
    assert found[Address(1, 2, 10)] == b"value 3"
    assert delete_records(conn, [(1, 1, 10), (9, 9, 9)]) == 1
    assert fetch_records(conn, []) == {}
    assert delete_records(conn, []) == 0


def test_repo_in_the_order_of_its_tree(conn: Conn) -> None:
    """In tree keys, the slash sorts behind the dot."""
    conn.execute(
        "INSERT INTO collection (id, nsid) VALUES "
        "(2001, 'a.b.c'), (2002, 'a.b.c.d'), (2003, 'a.b.cd'), (2004, 'A.b.c')"
    )
    conn.execute(
        "INSERT INTO rkey (id, text) VALUES (-2001, 'zzz'), (-2002, 'A~'), (-2003, '3')"
    )
    rkeys = [5, 1 << 60, (1 << 63) - 1, -2001, -2002, -2003, RKEY_SELF]
    rows = [(1, c, r) for c in (2001, 2002, 2003, 2004) for r in rkeys]
    copy_records(conn, pack_records(rows, [b"%d %d" % a[1:] for a in rows]))
    conn.execute(
        "INSERT INTO dropped_record VALUES (1, 'x', 'a.b.c/m', 'cid', 'too_large')"
    )
    items = list(iter_repo(conn, 1))
    keys = [key for key, _, _ in items]
    assert len(keys) == 29
    assert keys == sorted(keys)
    assert [key for key, _, value in items if value is None] == [b"a.b.c/m"]


def test_counts(conn: Conn) -> None:
    change = StatsChange()
    change.add_post(10, 1, LIKES, 2)
    change.add_post(11, 1, LIKES, 0)
    change.add_subject(1, 4, 10, 3)
    change.add_actor(5, FOLLOWERS, 1)
    apply_stats(conn, change)
    apply_stats(conn, change)
    assert fetch_post_stats(conn, [(1, 10), (1, 11)])[1, 10].likes == 4
    assert (1, 11) not in fetch_post_stats(conn, [(1, 10), (1, 11)])
    assert fetch_subject_likes(conn, [(1, 4, 10)]) == {(1, 4, 10): 6}
    followers = conn.execute("SELECT actor, followers FROM actor_stats").fetchall()
    assert followers == [(5, 2)]
    assert fetch_post_stats(conn, []) == {}
    assert fetch_subject_likes(conn, []) == {}
