"""Identity jobs: refreshed documents, verified handles, moves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from crawl_author import Author, identity_frame, post
from crawl_world import CrawlWorld, wait_for_stream, wait_until

from crawler.identities import identity_jobs
from crawler.identities.identity_cache import PostgresIdentityCache
from crawler.scope.admission import IDENTITY_JOB
from network.errors import UnreachableError
from network.identity.identity_cache import CachedDocument, CachedHandle
from protocol.syntax.handle import Handle
from storage import jobs
from storage.hosts import host_rows
from storage.repos import identities


@pytest.fixture
def world(index_db: str) -> Iterator[CrawlWorld]:
    opened = CrawlWorld(index_db)
    yield opened
    opened.close()


def give_handle(world: CrawlWorld, author: Author, handle: str) -> None:
    document = world.resolver.documents[author.did]
    world.resolver.documents[author.did] = replace(document, handles=(Handle(handle),))


def handles(world: CrawlWorld) -> dict[str, str | None]:
    return dict(world.query("SELECT did, handle FROM actor"))


def test_handle_of_a_new_account_follows_changes(world: CrawlWorld) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    give_handle(world, author, "alice.example.com")
    with world.crawling():
        wait_for_stream(host)
        host.post(author, ("create", "app.bsky.feed.post/a", post("hi")))
        wait_until(lambda: handles(world).get(author.did) == "alice.example.com")
        give_handle(world, author, "bob.example.com")
        host.send(lambda seq: identity_frame(author.did, seq, "mallory.example.com"))
        wait_until(lambda: handles(world)[author.did] == "bob.example.com")
    assert jobs_left(world) == {}


def test_cached_document_does_not_settle_a_refresh(world: CrawlWorld) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    give_handle(world, author, "alice.example.com")
    with world.crawling():
        wait_for_stream(host)
        host.post(author, ("create", "app.bsky.feed.post/a", post("hi")))
        wait_until(lambda: handles(world).get(author.did) == "alice.example.com")
        wait_until(lambda: jobs_left(world) == {})
        # A lookup a moment ago: the cache hides the change.
        world.resolver.remembered[author.did] = (
            world.resolver.documents[author.did],
            time.monotonic() + 1.5,
        )
        give_handle(world, author, "bob.example.com")
        host.send(lambda seq: identity_frame(author.did, seq))
        wait_until(lambda: handles(world)[author.did] == "bob.example.com")
    assert jobs_left(world) == {}


def test_reactivated_account_regains_its_handle(world: CrawlWorld) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    give_handle(world, author, "alice.example.com")
    with world.crawling():
        wait_for_stream(host)
        host.post(author, ("create", "app.bsky.feed.post/a", post("hi")))
        wait_until(lambda: handles(world).get(author.did) == "alice.example.com")
        host.tell(author, False, "takendown")
        # Hosts do not verify handles of accounts that are taken down.
        document = world.resolver.documents[author.did]
        world.resolver.documents[author.did] = replace(document, handles=())
        host.send(lambda seq: identity_frame(author.did, seq))
        wait_until(lambda: handles(world)[author.did] is None, 60)
        wait_until(lambda: jobs_left(world) == {}, 60)
        world.resolver.documents[author.did] = document
        host.tell(author, True)
        wait_until(lambda: handles(world)[author.did] == "alice.example.com", 60)


def jobs_left(world: CrawlWorld) -> dict[str, int]:
    with world.pool.connection() as conn:
        return jobs.count_jobs(conn)


def test_transient_failure_keeps_the_handle(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    author.write([("create", "app.bsky.feed.post/a", post("hi"))])
    give_handle(world, author, "alice.example.com")
    tasks = world.tasks(identity_age=0.0)
    tasks.list_repos()
    tasks.refresh_identities()
    assert handles(world) == {author.did: "alice.example.com"}

    async def fail(*_: Any, **__: Any) -> None:
        raise UnreachableError("the domain is away")

    for fault in ("verify_handle", "resolve_did"):
        with monkeypatch.context() as patch:
            patch.setattr(world.resolver, fault, fail)
            assert tasks.refresh_identities()["done"] == 1
        assert handles(world) == {author.did: "alice.example.com"}
        assert jobs_left(world) == {IDENTITY_JOB: 1}
        world.execute("UPDATE job SET not_before = now()")
    # A handle that points elsewhere is removed at once.
    document = world.resolver.documents[author.did]
    world.resolver.documents[author.did] = replace(document, handles=())
    tasks.refresh_identities()
    assert handles(world) == {author.did: None}


def fail_domain(patch: pytest.MonkeyPatch, world: CrawlWorld) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise UnreachableError("the domain is away")

    patch.setattr(world.resolver, "verify_handle", fail)


def test_handle_of_a_domain_down_for_a_day_is_removed(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    author.write([("create", "app.bsky.feed.post/a", post("hi"))])
    give_handle(world, author, "alice.example.com")
    tasks = world.tasks(identity_age=0.0)
    tasks.list_repos()
    tasks.refresh_identities()
    due = "UPDATE job SET not_before = now()"
    with monkeypatch.context() as patch:
        fail_domain(patch, world)
        # Twenty failures within a day keep the handle.
        for _ in range(20):
            tasks.refresh_identities()
            assert handles(world) == {author.did: "alice.example.com"}
            # The job waits even if the account is stale.
            assert tasks.refresh_identities() == {"queued": 0, "done": 0}
            world.execute(due)
        world.execute(
            "UPDATE handle_cache SET failing_since = now() - interval '25 hours'"
        )
        tasks.refresh_identities()
        assert handles(world) == {author.did: None}
        assert jobs_left(world) == {}
    tasks.refresh_identities()
    assert handles(world) == {author.did: "alice.example.com"}


def test_unclaimed_handle_is_removed_while_the_new_domain_is_down(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    author.write([("create", "app.bsky.feed.post/a", post("hi"))])
    give_handle(world, author, "alice.example.com")
    tasks = world.tasks(identity_age=0.0)
    tasks.list_repos()
    tasks.refresh_identities()
    give_handle(world, author, "new.example.com")
    with monkeypatch.context() as patch:
        fail_domain(patch, world)
        tasks.refresh_identities()
        assert handles(world) == {author.did: None}
        assert jobs_left(world) == {IDENTITY_JOB: 1}
        world.execute("UPDATE job SET not_before = now()")
    tasks.refresh_identities()
    assert handles(world) == {author.did: "new.example.com"}


def test_refresh_without_due_accounts_returns_at_once(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[Any] = []

    async def wait(*events: Any, **limits: Any) -> None:
        waits.append(events)

    monkeypatch.setattr(identity_jobs, "wait_first", wait)
    assert world.tasks().refresh_identities() == {"queued": 0, "done": 0}
    assert waits == []


def test_new_account_is_admitted_when_the_directory_is_back(world: CrawlWorld) -> None:
    host = world.add_host()
    first = world.add_author(1, host)
    first.write([("create", "app.bsky.feed.post/a", post("hi"))])
    with world.crawling(refresh_interval=0.5) as firehose:
        wait_until(lambda: world.follows(first))
        wait_for_stream(host)
        world.resolver.down = True
        author = world.add_author(2, host)
        host.post(author, ("create", "app.bsky.feed.post/a", post("hi")))
        wait_until(lambda: world.drops().get("unknown_account") == 1)
        wait_until(lambda: bool(jobs_left(world)))
        assert author.did not in handles(world)
        world.resolver.down = False
        # It writes no more, and its host is not listed again.
        wait_until(lambda: world.follows(author))
        wait_until(lambda: jobs_left(world) == {})
        assert firehose.streams == 1


def test_accounts_listed_during_an_outage_are_admitted_later(world: CrawlWorld) -> None:
    host = world.add_host()
    authors = [world.add_author(number, host) for number in (1, 2)]
    ended = world.add_author(3, host)
    for author in (*authors, ended):
        author.write([("create", "app.bsky.feed.post/a", post("hi"))])
    world.execute(
        "INSERT INTO actor (did, upstream_status) VALUES (%s, 'deleted')", ended.did
    )
    tasks = world.tasks(refresh_interval=0.0)
    world.resolver.down = True
    assert tasks.list_repos()["admitted"] == 0
    world.resolver.down = False
    assert tasks.list_repos() == {"hosts": 0}, "it is not due again for days"
    assert tasks.refresh_identities()["done"] >= 3
    assert tasks.hand_out_backfills()["fetched"] == 2
    assert all(map(world.follows, authors))
    assert len(world.query("SELECT FROM repo")) == 2, "a deleted account was admitted"


def test_unresolvable_account_is_forgotten(world: CrawlWorld) -> None:
    did = Author(1).did
    with world.pool.connection() as conn:
        jobs.put_jobs(conn, IDENTITY_JOB, [did])
        conn.execute("UPDATE job SET tries = %s", (identity_jobs._MAX_TRIES_UNKNOWN,))
    world.resolver.down = True
    world.tasks().refresh_identities()
    assert jobs_left(world) == {}


def test_unused_cached_lookups_are_evicted(world: CrawlWorld) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    author.write([("create", "app.bsky.feed.post/a", post("hi"))])
    tasks = world.tasks()
    tasks.list_repos()
    with world.pool.connection() as conn:
        identities.save_document(conn, author.did, {"id": author.did}, None, 1.0)
        for number in range(30):
            identities.save_document(conn, f"did:web:n{number}.net", None, "x", 1.0)
            identities.save_handle(conn, f"n{number}.net", None, "x", 1.0)
        identities.save_document(conn, "did:web:fresh.net", None, "x", time.time())
        identities.note_handle_failure(conn, "failing.net")
        # At most `limit` of each at once.
        assert identities.evict(conn, older_than=1e6, rows=100, limit=20) == 40
        assert identities.evict(conn, older_than=1e6, rows=100, limit=20) == 20
        assert identities.evict(conn, older_than=1e6, rows=100, limit=20) == 0
        # A failing domain is kept, but not forever.
        rows = conn.execute("SELECT handle FROM handle_cache").fetchall()
        assert [row[0] for row in rows] == ["failing.net"]
        conn.execute("UPDATE handle_cache SET failing_since = to_timestamp(1)")
        assert identities.evict(conn, older_than=1e6, rows=100, limit=20) == 1
        left = conn.execute("SELECT did FROM identity ORDER BY did").fetchall()
        assert [row[0] for row in left] == [author.did, "did:web:fresh.net"]
        for number in range(30):
            now = time.time() + number
            identities.save_document(conn, f"did:web:n{number}.net", None, "x", now)
        conn.execute("ANALYZE identity")
        # Over the row limit the oldest go.
        assert identities.evict(conn, older_than=1e6, rows=12, limit=500) == 20
        rows = conn.execute("SELECT did FROM identity").fetchall()
        assert {f"did:web:n{n}.net" for n in range(19, 30)} <= {row[0] for row in rows}


def test_concurrent_lookups_share_one_query(world: CrawlWorld) -> None:
    cache = PostgresIdentityCache(world.pool)
    dids = [f"did:web:n{number}.net" for number in range(200)]
    with world.pool.connection() as conn:
        for did in dids[:100]:
            identities.save_document(conn, did, {"id": did}, None, 1.0)
    asked: list[int] = []
    load = identities.load_documents

    def count(conn: Any, wanted: Any) -> Any:
        asked.append(len(wanted))
        return load(conn, wanted)

    async def run() -> None:
        found = await asyncio.gather(*map(cache.load_document, dids))
        assert [bool(each) for each in found] == [True] * 100 + [False] * 100

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identities, "load_documents", count)
        asyncio.run(run())
        asyncio.run(run())  # and on another loop
    assert sum(asked) == 400
    assert len(asked) <= 4


def test_tombstone_hides_the_account(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    from network.errors import DidTombstonedError

    host = world.add_host()
    author = world.add_author(1, host)
    author.write([("create", "app.bsky.feed.post/a", post("hi"))])
    tasks = world.tasks()
    tasks.list_repos()

    async def gone(*_: Any, **__: Any) -> None:
        raise DidTombstonedError("gone")

    monkeypatch.setattr(world.resolver, "resolve_did", gone)
    tasks.refresh_identities()
    assert world.query("SELECT upstream_status FROM actor") == [("deleted",)]


def test_refresh_notices_a_move(world: CrawlWorld) -> None:
    old, new = world.add_host(), world.add_host(known=False)
    author = world.add_author(1, old)
    author.write([("create", "app.bsky.feed.post/a", post("hi"))])
    tasks = world.tasks()
    tasks.list_repos()
    new.authors[author.did] = old.authors.pop(author.did)
    world.resolver.put(author.did, new.url, author.did_key)
    tasks.refresh_identities()
    [(name, source)] = world.query(
        "SELECT hostname, source FROM repo JOIN host ON host.id = repo.host"
    )
    assert name.endswith(new.url.rpartition(":")[2])
    assert source == host_rows.SOURCE_DOCUMENT
    assert tasks.hand_out_backfills()["fetched"] == 1
    assert world.follows(author)


def test_identity_cache_keeps_the_newest_result(world: CrawlWorld) -> None:
    cache = PostgresIdentityCache(world.pool)
    did = Author(1).did

    async def use() -> None:
        assert await cache.load_document(did) is None
        assert await cache.load_handle("a.example.com") is None
        document = CachedDocument({"id": did, "x": ["é", 1]}, None, 1_000.0)
        await cache.save_document(did, document)
        assert await cache.load_document(did) == document
        failed = CachedDocument(None, "DidNotFoundError", 2_000.0)
        await cache.save_document(did, failed)
        await cache.save_document(did, document)
        assert await cache.load_document(did) == failed, "the newer result stays"
        # Postgres cannot hold NUL: as if it had not been cached.
        await cache.save_document(did, CachedDocument({"id": "\0"}, None, 1_500.0))
        assert await cache.load_document(did) == failed, "the newer result stays"
        await cache.save_document(did, CachedDocument({"id": "\0"}, None, 3_000.0))
        assert await cache.load_document(did) is None
        await cache.save_document(did, failed)
        handle = CachedHandle(did, None, 5.0)
        await cache.save_handle("a.example.com", handle)
        assert await cache.load_handle("a.example.com") == handle

    asyncio.run(use())
    with world.pool.connection() as conn:
        assert identities.load_document(conn, did) is not None
