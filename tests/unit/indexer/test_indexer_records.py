"""Records of every form in batches: rows, links and errors."""

from __future__ import annotations

from typing import Any

import pytest
from indexer_steps import Apply, assert_indexed
from indexer_world import (
    LIKE,
    NOW,
    POST,
    PROFILE,
    author,
    held_post_counts,
    held_records,
    like,
    post,
    profile,
    reference,
    written_records,
)

from audit.repo_audit import rebuild_root, recount_stats
from indexer.apply import apply_batch
from protocol.data import cbor
from protocol.data.cid import cid_for
from protocol.events.drops import DropReason
from storage.postgres.pool import Conn
from storage.records.interning import Interner


def test_record_with_size_of_an_edge(conn: Conn, apply: Apply) -> None:
    a, b, c, d = (author(n) for n in range(4))
    path, first = a.write(POST, post("first"))
    odd = like(a.uri(path))
    # There is no such day, so this edge has no usual form.
    odd["createdAt"] = "2026-02-30T10:00:00.000Z"
    assert len(cbor.encode(odd)) == len(cbor.encode(like(a.uri(path))))
    events = [first]
    for someone, value in ((b, like(a.uri(path))), (c, odd), (d, like(a.uri(path)))):
        events.append(someone.write(LIKE, value)[1])
    apply(*events)
    assert_indexed(conn, [a, b, c, d])
    assert held_post_counts(conn) == {a.uri(path): (3, 0, 0, 0)}


def test_a_post_quoted_at_two_paths_is_quoted_once(conn: Conn, apply: Apply) -> None:
    a, b = author(0), author(1)
    path, event = a.write(POST, post())
    target = reference(a.uri(path))
    twice = post(embed={"record": {**target, "record": target}})
    key, quoting = b.write(POST, twice)
    apply(event, quoting)
    assert conn.execute("SELECT count(*) FROM link_quote").fetchone() == (2,)
    assert held_post_counts(conn) == {a.uri(path): (0, 0, 0, 1)}
    conn.rollback()
    assert recount_stats(conn).ok
    apply(b.commit({key: None}))
    assert held_post_counts(conn) == {}


def test_edit_moves_an_edge(conn: Conn, apply: Apply) -> None:
    a, b = author(0), author(1)
    one, first = a.write(POST, post("one"))
    two, second = a.write(POST, post("two"))
    path, third = b.write(LIKE, like(a.uri(one)))
    apply(first, second, third)
    apply(b.commit({path: like(a.uri(two))}))
    assert_indexed(conn, [a, b])


def test_edit_keeps_first_time(conn: Conn, interner: Interner, apply: Apply) -> None:
    a = author(0)
    path, event = a.write(POST, post("old") | {"createdAt": "2026-02-20T00:00:00Z"})
    apply(event)
    later = NOW.replace(year=2027)
    edit = a.commit({path: post("new") | {"createdAt": "2030-01-01T00:00:00Z"}})
    apply_batch(conn, interner, [edit], {}, later)
    row = conn.execute("SELECT sort_at, indexed_at FROM post").fetchone()
    assert row == (NOW, NOW)


def test_dropped_record_keeps_the_tree_whole(conn: Conn, apply: Apply) -> None:
    a, b = author(0), author(1)
    kept, first = a.write(POST, post("kept"))
    apply(first, b.write(LIKE, like(a.uri(kept)))[1])
    big, strange = f"{POST}/3lbig222222aa", "strange"
    result = apply(
        a.commit(
            {f"{POST}/3lbig222222bb": post("good sibling")},
            {big: cid_for(b"big"), strange: cid_for(b"strange")},
        )
    )
    assert result.drops == {DropReason.RECORD_TOO_LARGE: 2}
    assert conn.execute("SELECT reason, host, n FROM drop_count").fetchall() == [
        ("record_too_large", 1, 2)
    ]
    conn.rollback()
    assert_indexed(conn, [a, b])
    # A dropped update removes the previous record and its edges.
    own_like = next(path for path in b.records)
    apply(b.commit({}, {own_like: cid_for(b"a like of two megabytes")}))
    assert_indexed(conn, [a, b])
    assert held_post_counts(conn) == {}
    conn.rollback()
    # It comes back small and goes; the dropped ones are deleted.
    apply(b.commit({own_like: like(a.uri(kept))}))
    assert_indexed(conn, [a, b])
    apply(b.commit({own_like: None}), a.commit({big: None}, {strange: None}))
    assert_indexed(conn, [a, b])
    assert conn.execute("SELECT count(*) FROM dropped_record").fetchone() == (0,)


def test_text_that_postgres_refuses(conn: Conn, apply: Apply) -> None:
    a = author(0)
    text = "nul \x00 in the middle " + "x" * 400_000
    name = "a\x00b" + "n" * 5_000
    writes: dict[str, Any] = {
        f"{POST}/3laaaaaaaaa22": post(text, langs=["e\x00n", "d" * 900]),
        f"{PROFILE}/self": profile(name) | {"description": "\x00" * 10_000},
        "app.bsky.feed.generator/odd": {
            "$type": "app.bsky.feed.generator",
            "did": "did:web:" + "d" * 5_000 + "\x00",
            "displayName": name,
            "createdAt": CREATED_ODD,
        },
        "org.example.any/" + "k" * 512: {"$type": "org.example.any", "\x00": text},
    }
    apply(a.commit(writes))
    assert held_records(conn) == written_records([a])
    row = conn.execute("SELECT display_name, description FROM profile").fetchone()
    assert row is not None
    assert row[0].startswith("a\ufffdbn")
    assert (len(row[0]), set(row[1])) == (640, {"\ufffd"})
    assert conn.execute("SELECT langs FROM post").fetchone() == (
        ["e\ufffdn", "d" * 35],
    )
    conn.rollback()
    assert rebuild_root(conn, a.did) == a.data


CREATED_ODD = "0000-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{POST}/3laaaaaaaaa22", {"$type": POST, "text": 5, "createdAt": "x"}),
        (f"{POST}/3laaaaaaaaa22", {"$type": LIKE, "text": "x"}),
        (f"{POST}/3laaaaaaaaa22", post(reply={"root": 1})),
        (f"{POST}/3laaaaaaaaa22", post() | {"createdAt": "yesterday"}),
        ("app.bsky.graph.listitem/a", {"$type": "app.bsky.graph.listitem"}),
        ("app.bsky.feed.threadgate/a", {"$type": "app.bsky.feed.threadgate"}),
        ("app.bsky.feed.generator/a", {"$type": "app.bsky.feed.generator"}),
        ("app.bsky.graph.list/a", {"$type": "app.bsky.graph.list", "name": []}),
        ("app.bsky.graph.starterpack/a", {"$type": "app.bsky.graph.starterpack"}),
        ("app.bsky.labeler.service/self", {"$type": "app.bsky.labeler.service"}),
    ],
)
def test_misshapen_record_is_kept_and_not_shown(
    conn: Conn, apply: Apply, path: str, value: dict[str, Any]
) -> None:
    a = author(0)
    apply(a.commit({path: value}))
    assert held_records(conn) == written_records([a])
    assert conn.execute("SELECT count(*) FROM index_error").fetchone() == (1,)
    assert conn.execute("SELECT count(*) FROM post").fetchone() == (0,)
    conn.rollback()
    apply(a.commit({path: None}))
    assert conn.execute("SELECT count(*) FROM index_error").fetchone() == (0,)


def test_bytes_that_are_no_record_are_kept(conn: Conn, apply: Apply) -> None:
    a = author(0)
    for raw in (
        b"\xff\xff",
        cbor.encode([1, 2]),
        b"\xfb\x40\x09\x21\xfb\x54\x44\x2d\x18",
    ):
        apply(a.commit({f"{POST}/3laaaaaaaaa22": raw}))
        assert held_records(conn) == written_records([a])
        conn.rollback()
    assert rebuild_root(conn, a.did) == a.data


def test_unknown_lexicon_is_linked_by_every_path(conn: Conn, apply: Apply) -> None:
    a, b = author(0), author(1)
    path, event = a.write(POST, post())
    value = {
        "$type": "org.example.review",
        "about": a.uri(path),
        "people": [a.did, {"$type": "org.example.person", "who": b.did}],
    }
    key, review = b.write("org.example.review", value)
    apply(event, review)
    query = """
        SELECT p.path, a.did, l.target_rkey <> 0 FROM link_default l
        JOIN path p ON p.id = l.path JOIN actor a ON a.id = target_actor ORDER BY 1
    """
    assert conn.execute(query).fetchall() == [
        (".about", a.did, True),
        (".people[]", a.did, False),
        (".people[org.example.person].who", b.did, False),
    ]
    conn.rollback()
    apply(b.commit({key: value | {"about": "nothing"}}))
    assert len(conn.execute(query).fetchall()) == 2
    conn.rollback()
    apply(b.commit({key: None}))
    assert conn.execute(query).fetchall() == []


def test_records_of_the_same_key_keep_their_links(conn: Conn, apply: Apply) -> None:
    a = author(0)
    one, two = "org.example.one", "org.example.two"
    key = "3laaaaaaaaa22"
    apply(
        a.commit(
            {
                f"{one}/{key}": {"$type": one, "to": a.did},
                f"{two}/{key}": {"$type": two, "to": a.did},
            }
        )
    )
    apply(a.commit({f"{one}/{key}": None}))
    rows = conn.execute(
        "SELECT nsid FROM link_default l JOIN path p ON p.id = l.path "
        "JOIN collection c ON c.id = p.collection"
    ).fetchall()
    assert rows == [(two,)]
