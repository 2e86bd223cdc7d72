"""One count for an account and a subject; recreated posts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from indexer_world import (
    CLOCK,
    FOLLOW,
    LIKE,
    NOW,
    POST,
    REPOST,
    Author,
    author,
    follow,
    held_actor_counts,
    held_post_counts,
    like,
    post,
    quote,
    reply,
    repost,
)

from audit.repo_audit import recount_stats
from audit.row_audit import audit_whole
from indexer import recreated_posts
from indexer.account import purge_account
from indexer.apply import apply_batch
from indexer.repos.checkout import Checkout
from indexer.repos.repo_batch import import_fresh
from protocol.data.cid import cid_for, cid_to_text
from protocol.events.event import AccountEvent
from protocol.syntax import tid_to_int
from storage.postgres.pool import Conn
from storage.records.interning import Interner

MADE = {LIKE: like, REPOST: repost, FOLLOW: follow}
BLOCK = "app.bsky.graph.block"


def check(conn: Conn, interner: Interner, *authors: Author) -> None:
    """Compare counts with edges, and edges with records."""
    assert recount_stats(conn).ok
    for someone in authors:
        found = audit_whole(conn, interner, someone.did)
        assert found.ok, found.fault


def counts(conn: Conn, uri: str) -> tuple[int, ...]:
    found = held_post_counts(conn).get(uri, (0, 0, 0, 0))
    conn.rollback()
    return found


def edges(conn: Conn) -> list[tuple[int, int]]:
    """Return (actor, rkey) of counted edges, by every query."""
    rows = conn.execute("SELECT actor, rkey FROM link ORDER BY 1, 2").fetchall()
    conn.rollback()
    return rows


def test_account_counts_once(conn: Conn, apply: Any, interner: Interner) -> None:
    a, b = author(0), author(1)
    path, event = a.write(POST, post())
    uri = a.uri(path)
    apply(event)
    made: dict[str, list[str]] = {LIKE: [], REPOST: [], FOLLOW: [], BLOCK: []}
    for nsid, paths in made.items():
        subject = follow(a.did) if nsid in (FOLLOW, BLOCK) else like(uri)
        for key in (CLOCK.next(), "no-tid", "jzzzzzzzzzzzz"):
            paths.append(f"{nsid}/{key}")
        value = subject | {"$type": nsid}
        # Two in one commit, with one time, then one more.
        apply(b.commit({p: value for p in paths[:2]}))
        apply(b.commit({paths[2]: value}))
    assert counts(conn, uri) == (1, 1, 0, 0)
    assert held_actor_counts(conn)[a.did] == (1, 0, 1)
    assert held_actor_counts(conn)[b.did] == (0, 1, 0)
    assert len(edges(conn)) == 4
    check(conn, interner, a, b)
    # Whichever goes first, the account counts until the last has gone.
    for order in ((1, 0, 2), (0, 2, 1), (2, 1, 0), (2, 0, 1)):
        nsid, paths = made.popitem()
        for place in order[:2]:
            apply(b.commit({paths[place]: None}))
            check(conn, interner, b)
        assert len(edges(conn)) == len(made) + 1
        apply(b.commit({paths[order[2]]: None}))
        assert len(edges(conn)) == len(made)
    assert counts(conn, uri) == (0, 0, 0, 0)
    assert conn.execute("SELECT FROM uncounted_link").fetchall() == []
    conn.rollback()
    check(conn, interner, a, b)


def test_like_recreated_at_once(conn: Conn, apply: Any, interner: Interner) -> None:
    a, b = author(0), author(1)
    uri = a.uri(f"{POST}/3laaaaaaaaa22")  # which never comes
    first, second, third = (f"{LIKE}/{CLOCK.next()}" for _ in range(3))
    apply(b.commit({first: like(uri)}))
    apply(b.commit({first: None, second: like(uri)}))
    assert counts(conn, uri) == (1, 0, 0, 0)
    apply(b.commit({third: like(uri)}), b.commit({second: None, third: None}))
    assert counts(conn, uri) == (0, 0, 0, 0)
    # An edit moves a like from one post to another, where the account has one.
    other = a.uri(f"{POST}/3laaaaaaaaa23")
    apply(b.commit({first: like(uri), second: like(other)}))
    apply(b.commit({second: like(uri)}))
    assert (counts(conn, uri), counts(conn, other)) == ((1, 0, 0, 0), (0, 0, 0, 0))
    apply(b.commit({second: like(other)}))
    assert (counts(conn, uri), counts(conn, other)) == ((1, 0, 0, 0), (1, 0, 0, 0))
    check(conn, interner, b)


def test_many_likes_of_one_account(conn: Conn, apply: Any, interner: Interner) -> None:
    a, b, c = author(0), author(1), author(2)
    uri = a.uri(f"{POST}/3laaaaaaaaa22")
    paths = [f"{LIKE}/{CLOCK.next()}" for _ in range(1_000)]
    apply(b.commit(dict.fromkeys(paths, like(uri))))
    apply(c.commit({paths[0]: like(uri)}))
    assert counts(conn, uri) == (2, 0, 0, 0)
    check(conn, interner, b)
    apply(b.commit(dict.fromkeys(paths[:999])))
    assert counts(conn, uri) == (2, 0, 0, 0)
    apply(AccountEvent(b.did, False, "deleted", host=1))  # type: ignore[arg-type]
    purge_account(conn, interner, interner.actors([b.did])[b.did], NOW)
    assert counts(conn, uri) == (1, 0, 0, 0)
    assert recount_stats(conn).ok


@pytest.mark.parametrize("way", ["gathered", "fetched", "fetched in pieces"])
def test_fetched_repos_count_once(
    conn: Conn, interner: Interner, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "fetched in pieces":
        monkeypatch.setattr("indexer.repos.checkout._CHUNK_RECORDS", 2)
    a, b = author(0), author(1)
    uri = a.uri(f"{POST}/3laaaaaaaaa22")
    via = like(uri) | {"via": {"uri": uri, "cid": "x"}}
    first = CLOCK.next()
    b.commit(
        {f"{LIKE}/{first}": like(uri)}
        | {f"{LIKE}/{CLOCK.next()}": like(uri) for _ in range(5)}
        | {f"{LIKE}/{CLOCK.next()}": via, f"{FOLLOW}/x": follow(a.did)}
        | {f"{FOLLOW}/{CLOCK.next()}": follow(a.did) for _ in range(3)}
    )
    if way == "gathered":
        fetched: Any = type("", (), {"did": b.did, "host": 1, "head": b.head()})
        fetched.selection, fetched.records, fetched.drops = None, b.repo_records(), []
        actor = interner.actors([b.did])[b.did]
        conn.execute("INSERT INTO repo VALUES (%s, 1, 'resyncing')", (actor,))
        conn.commit()
        assert import_fresh(conn, interner, [fetched], NOW) == []
    else:
        for _ in range(2):
            with Checkout(conn, interner, b.did, 1, now=NOW) as checkout:
                checkout.add(b.repo_records())
                checkout.finish(b.head())
    assert counts(conn, uri) == (1, 0, 0, 0)
    assert held_actor_counts(conn) == {a.did: (1, 0, 0), b.did: (0, 1, 0)}
    conn.rollback()
    assert tid_to_int(first) in [rkey for _, rkey in edges(conn)]
    check(conn, interner, b)


def test_orphaned_uncounted_edge(conn: Conn, apply: Any, interner: Interner) -> None:
    b = author(1)
    uri = author(0).uri(f"{POST}/3laaaaaaaaa22")
    apply(b.commit({f"{LIKE}/a": like(uri), f"{LIKE}/b": like(uri)}))
    for statement in (
        "DELETE FROM link",
        "DELETE FROM uncounted_link",
        "INSERT INTO link SELECT rkey, target_rkey, actor, target_actor,"
        " target_collection, path, sort_at FROM uncounted_link",
        "INSERT INTO uncounted_link SELECT * FROM uncounted_link",
        "UPDATE uncounted_link SET target_rkey = target_rkey + 1",
    ):
        check(conn, interner, b)
        with conn.transaction():
            conn.execute("CREATE TEMP TABLE kept AS SELECT * FROM link")
            conn.execute("CREATE TEMP TABLE aside AS SELECT * FROM uncounted_link")
            assert conn.execute(statement).rowcount  # type: ignore[arg-type]
        assert not audit_whole(conn, interner, b.did).ok, statement
        with conn.transaction():
            conn.execute("DELETE FROM link")
            conn.execute("DELETE FROM uncounted_link")
            conn.execute("INSERT INTO link SELECT * FROM kept")
            conn.execute("INSERT INTO uncounted_link SELECT * FROM aside")
            conn.execute("DROP TABLE kept; DROP TABLE aside")


def new_path(nsid: str) -> str:
    return f"{nsid}/{CLOCK.next()}"


def reacted(someone: Author, uri: str, cid: str) -> Any:
    """Write every kind of edge to a post, by its CID, from one account."""
    value: dict[str, Any] = {
        new_path(LIKE): like(uri),
        new_path(REPOST): repost(uri),
        new_path(POST): reply(uri, uri),
        new_path(POST): quote(uri),
    }
    for record in value.values():
        for reference in (
            record.get("subject"),
            record.get("reply", {}).get("parent"),
            record.get("embed", {}).get("record"),
        ):
            if reference is not None:
                reference["cid"] = cid
    return someone.commit(value)


@pytest.mark.parametrize("together", [False, True])
def test_recreated_post_counts_edges_to_new_cid(
    conn: Conn, apply: Any, interner: Interner, together: bool
) -> None:
    a, b, c = author(0), author(1), author(2)
    path, event = a.write(POST, post("first"))
    uri = a.uri(path)

    def cid() -> str:
        return cid_to_text(cid_for(a.records[path]))

    old = cid()
    apply(event, reacted(b, uri, old), reacted(b, uri, old), reacted(c, uri, old))
    assert counts(conn, uri) == (2, 2, 3, 3)
    ended, begun = a.commit({path: None}), a.commit({path: post("second")})
    # Edges of other hosts may come before the new post.
    early = reacted(c, uri, cid())
    if together:
        apply(early, ended, begun)
    else:
        apply(ended)
        apply(early)
        apply(begun)
    assert counts(conn, uri)[2:] == (1, 1)
    assert counts(conn, uri)[:2] == (0, 0), "c's first ones counted, and were stale"
    check(conn, interner, a, b, c)
    apply(reacted(b, uri, cid()))
    assert counts(conn, uri) == (1, 1, 2, 2)
    # Edges to the first post do not return when the newer goes.
    likes = [p for p in b.records if p.startswith((LIKE, REPOST))]
    apply(b.commit(dict.fromkeys(likes[-2:])))
    assert counts(conn, uri)[:2] == (0, 0)
    apply(b.commit(dict.fromkeys(likes[:-2])))
    check(conn, interner, a, b, c)
    # An edit keeps them, as in the reference.
    apply(reacted(b, uri, cid()), a.commit({path: post("third")}))
    assert counts(conn, uri) == (1, 1, 3, 3)
    check(conn, interner, a, b, c)


def test_recreated_post_reads_bounded_edges(
    conn: Conn, apply: Any, interner: Interner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recreated_posts, "MAX_EDGES", 3)
    a = author(0)
    path, event = a.write(POST, post())
    likers = [author(number) for number in range(1, 6)]
    apply(event, *(b.write(LIKE, like(a.uri(path)))[1] for b in likers))
    apply(a.commit({path: None}))
    apply(a.commit({path: post("again")}))
    assert counts(conn, a.uri(path)) == (2, 0, 0, 0)
    check(conn, interner, a, *likers)


def test_replayed_batch_counts_once(conn: Conn, interner: Interner) -> None:
    b = author(1)
    uri = author(0).uri(f"{POST}/3laaaaaaaaa22")
    events = [b.write(LIKE, like(uri))[1] for _ in range(3)]
    for _ in range(2):
        apply_batch(conn, interner, events, {1: 1}, NOW + timedelta(days=1))
    assert counts(conn, uri) == (1, 0, 0, 0)
    check(conn, interner, b)


def test_members_of_a_list_are_counted(
    conn: Conn, apply: Any, interner: Interner
) -> None:
    a, b = author(0), author(1)
    graph = "app.bsky.graph."
    path, event = a.write(
        f"{graph}list",
        {"name": "x", "purpose": "app.bsky.graph.defs#modlist", "createdAt": "2026"},
    )
    apply(event)

    def item(subject: str) -> dict[str, Any]:
        return {
            "$type": f"{graph}listitem",
            "subject": subject,
            "list": a.uri(path),
            "createdAt": "2026-11-01T00:00:00Z",
        }

    def items() -> int:
        row = conn.execute("SELECT sum(items) FROM subject_stats").fetchone()
        conn.rollback()
        return int(row[0] or 0) if row else 0

    keys = [f"{graph}listitem/{CLOCK.next()}" for _ in range(3)]
    apply(a.commit({keys[0]: item(b.did), keys[1]: item(b.did)}))
    # One without a member, and one of somebody else.
    apply(a.commit({keys[2]: {**item(b.did), "subject": 7}}))
    apply(b.commit({keys[0]: item(a.did)}))
    assert items() == 2
    check(conn, interner, a, b)
    apply(a.commit({keys[0]: item(a.did), keys[2]: item(b.did)}))
    assert items() == 3
    apply(a.commit({keys[0]: None}))
    assert items() == 2
    check(conn, interner, a, b)
