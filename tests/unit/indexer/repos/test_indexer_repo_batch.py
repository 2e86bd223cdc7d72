"""Batches of small repos, compared with a checkout of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest
from indexer_steps import assert_indexed, claim, fetched_repo, state_of
from indexer_world import (
    CLOCK,
    LIKE,
    NOW,
    POST,
    Author,
    author,
    follow,
    held_records,
    like,
    post,
    profile,
    repost,
)

from indexer.apply import apply_batch
from indexer.repos import repo_batch
from indexer.repos.checkout import Checkout
from indexer.repos.repo_batch import BatchChangedError, import_fresh
from protocol.data import cbor
from protocol.events.event import AccountEvent
from protocol.syntax import Tid
from storage.postgres.pool import Conn
from storage.records.interning import Interner


def some_authors() -> list[Author]:
    """Create authors with edges, posts, profiles, keys that are no TIDs, and drops."""
    authors = [author(number) for number in range(4)]
    first = authors[0]
    path = f"{POST}/{CLOCK.next()}"
    for number, one in enumerate(authors):
        writes: dict[str, Any] = {
            "app.bsky.actor.profile/self": profile(f"No {number}"),
            f"{LIKE}/{CLOCK.next()}": like(first.uri(path)),
            f"app.bsky.feed.repost/{CLOCK.next()}": repost(first.uri(path)),
            f"app.bsky.graph.follow/{CLOCK.next()}": follow(first.did),
            f"{POST}/{CLOCK.next()}": post(f"post of {number}"),
            f"{POST}/jzzzzzzzzzzzz": post("a TID beyond 63 bits"),
            "org.example.note/a-note": {"$type": "org.example.note", "text": "n"},
        }
        if one is first:
            writes[path] = post("the liked one")
        one.commit(writes)
    return authors


def test_batch_equals_checkouts(conn: Conn, interner: Interner) -> None:
    authors = some_authors()
    claim(conn, interner, *authors)
    assert import_fresh(conn, interner, [fetched_repo(a) for a in authors], NOW) == []
    assert_indexed(conn, authors)


def test_record_with_size_of_an_edge(conn: Conn, interner: Interner) -> None:
    one = author(0)
    paths = [f"{POST}/{CLOCK.next()}" for _ in range(3)]
    likes = [like(one.uri(path)) for path in paths]
    # There is no such day, so this is no edge of the usual form.
    likes[1]["createdAt"] = "2026-02-30T10:00:00.000Z"
    assert len({len(cbor.encode(value)) for value in likes}) == 1
    posts: dict[str, Any] = {path: post("liked") for path in paths}
    one.commit(posts | {f"{LIKE}/{CLOCK.next()}": value for value in likes})
    claim(conn, interner, one)
    assert import_fresh(conn, interner, [fetched_repo(one)], NOW) == []
    assert_indexed(conn, [one])


def test_buffered_commits_follow(conn: Conn, interner: Interner) -> None:
    authors = some_authors()
    claim(conn, interner, *authors)
    repos = [fetched_repo(one) for one in authors]
    gone = next(path for path in authors[1].records if path.startswith(POST))
    later = [
        authors[1].commit({gone: None}),
        authors[1].commit({f"{POST}/{CLOCK.next()}": post("later")}),
        authors[3].commit({f"{POST}/{CLOCK.next()}": post("later too")}),
    ]
    assert apply_batch(conn, interner, later, {}, NOW).buffered == 3
    assert import_fresh(conn, interner, repos, NOW) == []
    assert_indexed(conn, authors)
    assert conn.execute("SELECT count(*) FROM resync_buffer").fetchone() == (0,)


def test_batch_leaves_repos_that_are_not_fresh(conn: Conn, interner: Interner) -> None:
    held, unclaimed, fresh = authors = some_authors()[:3]
    claim(conn, interner, held, fresh)
    with Checkout(conn, interner, held.did, 1, now=NOW) as checkout:
        checkout.add(held.repo_records())
        checkout.finish(held.head())
    claim(conn, interner, held)
    repos = [fetched_repo(one) for one in authors]
    assert import_fresh(conn, interner, repos, NOW) == [repos[0], repos[1]]
    assert state_of(conn, fresh) == "synchronized"
    assert state_of(conn, unclaimed) is None


def test_older_rev_is_left(conn: Conn, interner: Interner) -> None:
    [one] = authors = some_authors()[:1]
    claim(conn, interner, *authors)
    conn.execute("UPDATE repo SET rev = %s", (CLOCK.next(),))
    conn.commit()
    repo = fetched_repo(one)
    assert import_fresh(conn, interner, [repo], NOW) == [repo]
    assert (
        import_fresh(
            conn,
            interner,
            [replace(repo, head=replace(one.head(), rev=Tid(CLOCK.next())))],
            NOW,
        )
        == []
    )


def test_changed_repo_undoes_the_batch(
    conn: Conn, interner: Interner, index_db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    authors = some_authors()
    claim(conn, interner, *authors)
    real = repo_batch.write

    def write_and_delete(*args: Any, **more: Any) -> Any:
        event = AccountEvent(authors[2].did, False, "deleted", host=1)  # type: ignore[arg-type]
        with psycopg.connect(index_db) as other:
            apply_batch(other, interner, [event], {}, NOW)
        return real(*args, **more)

    monkeypatch.setattr(repo_batch, "write", write_and_delete)
    with pytest.raises(BatchChangedError):
        import_fresh(conn, interner, [fetched_repo(one) for one in authors], NOW)
    assert held_records(conn) == {}


def test_sync_event_meanwhile_is_reached_later(conn: Conn, interner: Interner) -> None:
    [one] = authors = some_authors()[:1]
    claim(conn, interner, *authors)
    before = fetched_repo(one)
    one.commit({f"{POST}/{CLOCK.next()}": post("not in what was fetched")})
    apply_batch(conn, interner, [one.sync()], {}, NOW)
    assert state_of(conn, one) == "desynchronized"
    # No longer claimed: it is not taken by the batch.
    assert import_fresh(conn, interner, [before], NOW) == [before]
