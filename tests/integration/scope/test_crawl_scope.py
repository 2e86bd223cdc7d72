"""Scopes: accounts by name, by follows, by collection."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from crawl_author import Author, post
from crawl_scopes import BLOG, DATE, FOLLOW, POST, choose, follow, people
from crawl_world import CrawlWorld, rebuild_root, wait_for_stream, wait_until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from audit.repo_audit import recount_stats
from crawler.database import Database
from crawler.scope.reconciler import ScopeReconciler
from indexer.collections.texts import TEXTS
from network.server.listener import serving_in_thread
from search.drain import drain_outbox
from search.engines.postgres import PostgresEngine
from storage.hosts import host_rows
from storage.postgres.pool import Conn
from storage.repos.scope_progress import ScopeProgress, load_progress
from storage.repos.scope_rows import ScopeKind, load_scope


def like(who: Author, name: str) -> dict[str, Any]:
    cid = "bafyreiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    subject = {"uri": f"at://{who.did}/{POST}/{name}", "cid": cid}
    return {"$type": "app.bsky.feed.like", "subject": subject, "createdAt": DATE}


@contextlib.contextmanager
def keeping(world: CrawlWorld) -> Iterator[None]:
    """Run a keeper in a thread of its own."""
    loops: list[asyncio.AbstractEventLoop] = []
    stop = asyncio.Event()
    failures: list[BaseException] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        async with world.open_clients() as clients:
            keeper = ScopeReconciler(
                world.settings(),
                Database(world.pool),
                clients,
                world.sink.remove_out_of_scope,
                world.sink.keep_wanted,
            )
            await keeper.run(stop)

    def in_thread() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=in_thread)
    thread.start()
    try:
        yield
    finally:
        wait_until(lambda: loops or failures)
        if loops:
            loops[0].call_soon_threadsafe(stop.set)
        thread.join(30)
    assert not failures, failures


def indexed(world: CrawlWorld) -> set[str]:
    return set(world.heads())


def is_exactly(world: CrawlWorld, *authors: Author) -> bool:
    return world.follows(*authors) and indexed(world) == {a.did for a in authors}


def test_scope_widens_and_narrows_by_names(world: CrawlWorld) -> None:
    host = world.add_host()
    authors = people(world, host, 4)
    a, b, c, d = authors
    choose(world, "dids", a, b)
    with keeping(world), world.crawling() as crawl:
        wait_for_stream(host)
        wait_until(lambda: is_exactly(world, a, b))
        for author in authors:
            host.post(author, ("create", f"{POST}/one", post("one")))
        wait_until(lambda: is_exactly(world, a, b))
        wait_until(lambda: world.drops().get("out_of_scope") == 2)
        # The cursor passes what nobody wants.
        seqs = "SELECT min(seq) FROM host_cursor"
        wait_until(lambda: world.query(seqs) == [(4,)])
        assert set(host.repo_requests) == {a.did, b.did}
        choose(world, "network")
        wait_until(lambda: is_exactly(world, *authors))
        host.post(c, ("create", f"{POST}/two", like(a, "one")))
        host.post(d, ("create", "app.bsky.feed.like/two", like(a, "one")))
        host.post(c, ("create", f"{FOLLOW}/two", follow(a)))
        wait_until(lambda: world.follows(*authors))
        counts = "SELECT likes FROM post_stats WHERE likes > 0"
        assert world.query(counts) == [(1,)]
        choose(world, "dids", a)
        wait_until(lambda: is_exactly(world, a))
        host.post(a, ("create", f"{POST}/three", post("three")))
        host.post(d, ("create", f"{POST}/three", post("three")))
        wait_until(lambda: is_exactly(world, a))
        assert crawl.streams == 1, "all the while on one connection"
        # And back: what left comes whole.
        choose(world, "dids", a, d)
        wait_until(lambda: is_exactly(world, a, d))
    with world.pool.connection() as conn:
        for author in (a, d):
            assert rebuild_root(conn, author.did) == author.data


def rows_of(world: CrawlWorld, *authors: Author) -> dict[str, int]:
    """Return the number of rows of these accounts by table."""
    dids = [author.did for author in authors]
    tables = ("record", "post", "link", "repo", "dropped_record", "search_document")
    return {
        table: world.query(
            f"SELECT count(*) FROM {table} JOIN actor ON actor.id = {table}.actor"
            " WHERE did = ANY(%s)",
            dids,
        )[0][0]
        for table in tables
    }


def test_removed_accounts_leave_no_rows(world: CrawlWorld) -> None:
    host = world.add_host()
    a, b, c = people(world, host, 3)
    b.write([("create", f"{FOLLOW}/a", follow(a))])
    c.write([("create", f"{FOLLOW}/a", follow(a))])
    b.write([("create", "app.bsky.feed.like/a", like(a, "before"))])
    a.write([("create", f"{FOLLOW}/b", follow(b))])
    engine = PostgresEngine(world.pool)

    def drain() -> None:
        with world.pool.connection() as conn:
            while drain_outbox(conn, engine, TEXTS, 1_000):
                pass

    with world.crawling():
        wait_until(lambda: world.follows(a, b, c))
    drain()
    assert rows_of(world, b)["search_document"] == 1
    choose(world, "dids", a, c)
    removed = world.sink.remove_out_of_scope([a.did, b.did])
    assert removed == 3, "those of b: a belongs to the scope"
    drain()
    assert set(rows_of(world, b).values()) == {0}
    actor = "SELECT count(*) FROM search_actor JOIN actor ON actor.id = actor"
    assert world.query(f"{actor} WHERE did = %s", b.did) == [(0,)]
    assert rows_of(world, a, c) == {
        "record": 4, "post": 2, "link": 2, "repo": 2, "dropped_record": 0,
        "search_document": 2,
    }  # fmt: skip
    assert world.query("SELECT accounts FROM host") == [(2,)]
    with world.pool.connection() as conn:
        assert recount_stats(conn).ok
        followers = conn.execute(
            "SELECT followers FROM actor_stats s JOIN actor ON actor.id = s.actor"
            " WHERE did = %s",
            (a.did,),
        ).fetchone()
    assert followers == (1,)
    # Twice is as good as once, and somebody unknown is no harm.
    assert world.sink.remove_out_of_scope([b.did, "did:plc:nobody"]) == 0


def test_count_check_detects_missing_rows(world: CrawlWorld) -> None:
    host = world.add_host()
    a, b = people(world, host, 2)
    b.write([("create", f"{FOLLOW}/a", follow(a))])
    with world.crawling():
        wait_until(lambda: world.follows(a, b))
    with world.pool.connection() as conn:
        conn.execute("DELETE FROM link")
        conn.commit()
        assert not recount_stats(conn).ok


def test_follows_of_a_seed_join_and_leave(world: CrawlWorld) -> None:
    host = world.add_host()
    seed, b, c, d = people(world, host, 4)
    seed.write([("create", f"{FOLLOW}/b", follow(b))])
    choose(world, "follows", seed)
    with keeping(world), world.crawling():
        wait_for_stream(host)
        wait_until(lambda: is_exactly(world, seed, b))
        host.post(seed, ("create", f"{FOLLOW}/c", follow(c)))
        wait_until(lambda: is_exactly(world, seed, b, c))
        host.post(c, ("create", f"{POST}/one", post("one")))
        host.post(d, ("create", f"{POST}/one", post("one")))
        wait_until(lambda: is_exactly(world, seed, b, c))
        host.post(seed, ("delete", f"{FOLLOW}/b", None))
        wait_until(lambda: is_exactly(world, seed, c))
    assert load(world).kind is ScopeKind.FOLLOWS


def load(world: CrawlWorld) -> Any:
    with world.pool.connection() as conn:
        return load_scope(conn)


class ListingRelay:
    """Lists the members of a collection, two a page."""

    def __init__(self, authors: list[Author]) -> None:
        self.dids = [author.did for author in authors]
        path = "/xrpc/com.atproto.sync.listReposByCollection"
        self.app = Starlette(routes=[Route(path, self._list)])

    async def _list(self, request: Request) -> Response:
        assert request.query_params["collection"] == BLOG
        start = int(request.query_params.get("cursor") or 0)
        body: dict[str, Any] = {
            "repos": [{"did": did} for did in self.dids[start : start + 2]]
        }
        if start + 2 < len(self.dids):
            body["cursor"] = str(start + 2)
        return JSONResponse(body)


def test_members_of_a_collection_are_listed_and_found_live(world: CrawlWorld) -> None:
    host = world.add_host()
    authors = people(world, host, 6)
    listed, (writes, reads, foreign) = authors[:3], authors[3:]
    entry = {"$type": BLOG, "title": "x"}
    for author in listed:
        author.write([("create", f"{BLOG}/a", entry)])
    choose(world, "collection", collections=[BLOG])
    with (
        serving_in_thread(ListingRelay(listed).app) as url,
        world.pool.connection() as conn,
    ):
        host_rows.put_host(
            conn, url.partition("://")[2], url, source="configured", relay=True,
            state=host_rows.HOST_RELAYED,
        )  # fmt: skip
        conn.commit()
        with keeping(world), world.crawling():
            wait_for_stream(host)
            wait_until(lambda: is_exactly(world, *listed))
            host.post(writes, ("create", f"{BLOG}/a", entry))
            host.post(reads, ("create", f"{POST}/a", post("a")))
            host.post(foreign, ("create", f"{BLOG}x/a", {"$type": f"{BLOG}x"}))
            wait_until(lambda: is_exactly(world, *listed, writes))
            # Joined for good, not for this process only.
            joined = "SELECT count(*) FROM scope_account"
            wait_until(lambda: world.query(joined) == [(4,)])
            host.post(writes, ("create", f"{POST}/b", post("b")))
            wait_until(lambda: is_exactly(world, *listed, writes))


def test_scope_progress_counts_accounts(world: CrawlWorld) -> None:
    host = world.add_host()
    a, b, c = people(world, host, 3)
    with world.crawling():
        wait_until(lambda: world.follows(a, b, c))
    with world.pool.connection() as conn:
        progress = load_progress(conn)
        assert 0.0 < progress.lately_s < 60.0
        span = progress.lately_s
        assert progress == ScopeProgress(None, 3, 3, 0, 3, 0, lately_s=span)
    choose(world, "dids", a, b)
    with world.pool.connection() as conn:
        progress = load_progress(conn)
        span = progress.lately_s
        assert progress == ScopeProgress(2, 2, 2, 0, 2, 1, lately_s=span)
    halfway = ScopeProgress(1_000, 400, 300, 100, 60, 0)
    assert (halfway.total, halfway.done, halfway.seconds_left) == (1_000, 400, 6_000.0)
    assert ScopeProgress(1_000, 0, 0, 0, 0, 0).seconds_left is None
    assert ScopeProgress(10, 10, 10, 0, 0, 0).seconds_left == 0.0


def test_account_returning_during_removal_is_fetched_again(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = world.add_host()
    a, b = people(world, host, 2)
    for n in range(5):
        b.write([("create", f"{POST}/{n}", post("x"))])
    with world.crawling():
        wait_until(lambda: world.follows(a, b))
    choose(world, "dids", a)
    monkeypatch.setattr("indexer.account._PURGE_ROWS", 2)
    pages: list[int] = []

    def page(conn: Conn, *rest: Any) -> tuple[int, bool]:
        from indexer.account import remove_page

        pages.append(1)
        return remove_page(conn, *rest)

    monkeypatch.setattr("indexer.repos.scope_removal.remove_page", page)

    def outside(conn: Conn, did: str) -> bool:
        return len(pages) < 2

    monkeypatch.setattr("indexer.repos.scope_removal.is_outside", outside)
    assert world.sink.remove_out_of_scope([b.did]) == 4
    choose(world, "dids", a, b)
    with world.crawling():
        wait_until(lambda: is_exactly(world, a, b))
