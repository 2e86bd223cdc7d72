"""Deletions, from the host's stream to API responses, over real sockets.

The bounds are five seconds for the API and sixty for search. Each wait is longer, as
the machine may be busy.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crawl_author import Author, post
from crawl_world import CrawlWorld, FakeHost, rebuild_root, wait_for_stream, wait_until

from audit.repo_audit import recount_stats
from indexer import account as account_module
from indexer.index_writer import IndexWriter
from indexer.search_drain import search_drain
from network.server.listener import serving_in_thread
from search.engines.postgres import PostgresEngine
from service.provider import create_app
from service.runtime.config import Config
from storage.postgres.pool import open_pool
from storage.records.interning import Interner

POST = "app.bsky.feed.post"
WORD = "wombat"
PATIENCE = 60.0


class Reader:
    """An HTTP client of the provider."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, nsid: str, **params: Any) -> tuple[int, Any]:
        """Return (status, response)."""
        url = f"{self._url}/xrpc/{nsid}?{urllib.parse.urlencode(params)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def status(self, nsid: str, **params: Any) -> int:
        return self.get(nsid, **params)[0]

    def found(self, word: str = WORD) -> set[str]:
        """Return the URIs of the posts in a search."""
        _, answer = self.get("app.bsky.feed.searchPosts", q=word, limit=100)
        return {found["uri"] for found in answer["posts"]}

    def sees(self, author: Author) -> dict[str, bool]:
        """Return the methods that show something of this account."""
        did = author.did
        uri = f"at://{did}/{next(iter(author.records))}"
        feed = self.get("app.bsky.feed.getAuthorFeed", actor=did)
        return {
            "profile": self.status("app.bsky.actor.getProfile", actor=did) == 200,
            "feed": feed[0] == 200 and bool(feed[1]["feed"]),
            "posts": bool(self.get("app.bsky.feed.getPosts", uris=uri)[1]["posts"]),
            "thread": self._thread_is_shown(uri),
            "record": self.record(uri) == 200,
            "repo": self.status("com.atproto.sync.getLatestCommit", did=did) == 200,
            "listed": self._is_listed(did),
        }

    def record(self, uri: str) -> int:
        repo, collection, rkey = uri.removeprefix("at://").split("/")
        return self.status(
            "com.atproto.repo.getRecord", repo=repo, collection=collection, rkey=rkey
        )

    def _thread_is_shown(self, uri: str) -> bool:
        _, answer = self.get("app.bsky.feed.getPostThread", uri=uri)
        return "post" in answer.get("thread", {})

    def _is_listed(self, did: str) -> bool:
        _, answer = self.get("com.atproto.sync.listRepos")
        return any(r["did"] == did and r["active"] for r in answer["repos"])


@pytest.fixture
def world(index_db: str) -> Iterator[CrawlWorld]:
    opened = CrawlWorld(index_db)
    with (
        open_pool(index_db, max=4) as pool,
        open_pool(index_db, max=4) as names,
        search_drain(pool, PostgresEngine(pool)) as drain,
    ):
        opened.sink = IndexWriter(opened.pool, Interner(names), drain.wake)
        yield opened
    opened.close()


@pytest.fixture
def reader(index_db: str, tmp_path: Path) -> Iterator[Reader]:
    config = Config.read(home=tmp_path, dev_network=True)
    with serving_in_thread(create_app(config, index_db)) as url:
        yield Reader(url)


def settle(world: CrawlWorld, host: FakeHost, number: int, records: int) -> Author:
    """Return an account whose records were all written before we came."""
    author = world.add_author(number, host)
    author.write(
        [
            ("create", f"{POST}/{author.new_rkey()}", post(f"{WORD} number {n}"))
            for n in range(records)
        ]
    )
    return author


def of(author: Author, uris: set[str]) -> set[str]:
    return {uri for uri in uris if uri.startswith(f"at://{author.did}/")}


def in_the_engine(world: CrawlWorld, author: Author) -> int:
    """Return the documents of an account in the search engine itself."""
    sql = "SELECT count(*)::int FROM {} JOIN actor ON actor.id = actor WHERE did = %s"
    return sum(
        world.query(sql.format(table), author.did)[0][0]
        for table in ("search_document", "search_actor")
    )


def outbox_is_empty(world: CrawlWorld) -> bool:
    return world.query("SELECT count(*) FROM search_outbox") == [(0,)]


def test_deleted_record_disappears(world: CrawlWorld, reader: Reader) -> None:
    host = world.add_host()
    author = settle(world, host, 1, 3)
    doomed, kept, edited = author.records
    with world.crawling():
        wait_until(lambda: world.follows(author), PATIENCE, "followed")
        wait_until(lambda: len(reader.found()) == 3, PATIENCE, "searchable")
        host.post(
            author, ("delete", doomed, None), ("update", edited, post("a numbat now"))
        )
        uri = f"at://{author.did}/{doomed}"
        wait_until(lambda: reader.record(uri) == 400, PATIENCE, "gone")
        assert reader.get("app.bsky.feed.getPosts", uris=uri)[1]["posts"] == []
        left = {f"at://{author.did}/{kept}"}
        wait_until(lambda: reader.found() == left, PATIENCE, "not searchable")
        wait_until(lambda: len(reader.found("numbat")) == 1, PATIENCE, "edited")


@pytest.mark.parametrize(
    "status", ["deleted", "deactivated", "takendown", "throttled", "odd"]
)
def test_inactive_account_is_shown_nowhere(
    world: CrawlWorld, reader: Reader, status: str
) -> None:
    host = world.add_host()
    gone, neighbour = settle(world, host, 1, 40), settle(world, host, 2, 2)
    with world.crawling():
        wait_until(lambda: world.follows(gone, neighbour), PATIENCE, "followed")
        wait_until(lambda: len(reader.found()) == 42, PATIENCE, "searchable")
        assert all(reader.sees(gone).values()), reader.sees(gone)
        assert in_the_engine(world, gone) >= 40
        wait_for_stream(host)
        host.tell(gone, False, status)
        wait_until(
            lambda: not any(reader.sees(gone).values()), PATIENCE, "hidden everywhere"
        )
        wait_until(lambda: not of(gone, reader.found()), PATIENCE, "not searchable")
        wait_until(lambda: not in_the_engine(world, gone), PATIENCE, "not in search")
        assert len(of(neighbour, reader.found())) == 2
        assert all(reader.sees(neighbour).values())
        if status == "deleted":
            return
        # An account that only went away is there again, whole.
        host.tell(gone, True)
        wait_until(lambda: all(reader.sees(gone).values()), PATIENCE, "shown again")
        wait_until(lambda: len(reader.found()) == 42, PATIENCE, "searchable again")


@pytest.mark.parametrize("active", [False, True], ids=["gone", "back"])
def test_older_listing_does_not_override_an_event(
    world: CrawlWorld, active: bool
) -> None:
    host = world.add_host()
    author, other = settle(world, host, 1, 2), settle(world, host, 2, 2)

    def status() -> str:
        sql = "SELECT upstream_status FROM actor WHERE did = %s"
        return str(world.query(sql, author.did)[0][0])

    def listed() -> bool:
        return world.query("SELECT listed_at FROM host") != [(None,)]

    held, told = threading.Event(), threading.Event()
    with world.crawling():
        wait_until(lambda: world.follows(author, other), PATIENCE, "followed")
        wait_for_stream(host)
        host.tell(author, active=active, status=None if active else "suspended")
        host.tell(author, active=not active, status="suspended" if active else None)
        before = "suspended" if active else "active"
        wait_until(lambda: status() == before, PATIENCE, "told")
        wait_until(listed, PATIENCE, "compared")

        def hold() -> None:
            held.set()
            assert told.wait(PATIENCE)

        host.before_listed = hold
        world.execute("UPDATE host SET listed_at = NULL, polled_at = NULL")
        assert held.wait(PATIENCE)
        # The page is read, and on its way.
        host.tell(author, active=active, status=None if active else "suspended")
        after = "active" if active else "suspended"
        wait_until(lambda: status() == after, PATIENCE, "told again")
        told.set()
        wait_until(listed, PATIENCE, "compared again")
        assert status() == after
        # A status that is only in a listing is taken from it.
        host.statuses[other.did] = "takendown"
        world.execute("UPDATE host SET listed_at = NULL, polled_at = NULL")
        sql = "SELECT upstream_status FROM actor WHERE did = %s"
        wait_until(
            lambda: world.query(sql, other.did) == [("takendown",)], PATIENCE, "listed"
        )
        assert status() == after


def test_local_takedown_is_independent_of_the_host(
    world: CrawlWorld, reader: Reader
) -> None:
    host = world.add_host()
    author = settle(world, host, 1, 3)
    with world.crawling():
        wait_until(lambda: world.follows(author), PATIENCE, "followed")
        wait_until(lambda: len(reader.found()) == 3, PATIENCE, "searchable")
        [(actor,)] = world.query("SELECT id FROM actor")
        with world.pool.connection() as conn:
            account_module.set_takedown(conn, actor, "spam")
        wait_until(lambda: not any(reader.sees(author).values()), PATIENCE, "hidden")
        wait_until(lambda: not in_the_engine(world, author), PATIENCE, "not in search")
        # Its host knows nothing of that, and neither shows it nor stops its commits.
        wait_for_stream(host)
        host.tell(author, False, "deactivated")
        host.tell(author, True)
        host.post(author, ("create", f"{POST}/{author.new_rkey()}", post(WORD)))
        wait_until(lambda: world.follows(author), PATIENCE, "followed all the same")
        wait_until(lambda: outbox_is_empty(world), PATIENCE, "indexed")
        assert not any(reader.sees(author).values())
        assert reader.found() == set()
        with world.pool.connection() as conn:
            account_module.set_takedown(conn, actor, None)
        wait_until(lambda: all(reader.sees(author).values()), PATIENCE, "shown")
        wait_until(lambda: len(reader.found()) == 4, PATIENCE, "searchable again")


def test_large_account_is_purged_in_bounded_steps(
    world: CrawlWorld, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = world.add_host()
    gone, neighbour = settle(world, host, 1, 5_003), settle(world, host, 2, 2)
    left: list[int] = []

    def count(*arguments: Any, **named: Any) -> Any:
        # On a connection of its own: what is committed, so one entry a transaction.
        left.append(world.query("SELECT count(*)::int FROM record")[0][0])
        return read_page(*arguments, **named)

    read_page = account_module.read_page
    with world.crawling():
        wait_until(lambda: world.follows(gone, neighbour), PATIENCE, "followed")
        wait_until(lambda: outbox_is_empty(world), PATIENCE, "indexed")
        wait_for_stream(host)
        host.tell(gone, False, "deleted")
        wait_until(lambda: not any(reader.sees(gone).values()), PATIENCE, "hidden")
        wait_until(lambda: not of(gone, reader.found()), PATIENCE, "not searchable")
    monkeypatch.setattr(account_module, "read_page", count)
    assert world.sink.purge_deleted(10) == 5_003
    assert left == [5_005, 3_005, 1_005]
    assert world.query("SELECT count(*) FROM record") == [(2,)]
    [actor] = world.query("SELECT id FROM actor WHERE did = %s", gone.did)
    for table in (*account_module.OWNED_TABLES, "search_document", "search_actor"):
        assert not world.query(f"SELECT FROM {table} WHERE actor = %s", *actor), table
    with world.pool.connection() as conn:
        assert recount_stats(conn).ok


def test_account_reactivated_during_a_purge_is_whole_again(
    world: CrawlWorld, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = world.add_host()
    author = settle(world, host, 1, 500)
    pages = 0

    def fail(*arguments: Any, **named: Any) -> Any:
        nonlocal pages
        pages += 1
        if pages == 3:
            raise KeyboardInterrupt
        return read_page(*arguments, **named)

    read_page = account_module.read_page
    with world.crawling():
        wait_until(lambda: world.follows(author), PATIENCE, "followed")
        wait_for_stream(host)
        host.tell(author, False, "deleted")
        wait_until(lambda: not any(reader.sees(author).values()), PATIENCE, "hidden")
        with monkeypatch.context() as patch:
            patch.setattr(account_module, "_PURGE_ROWS", 100)
            patch.setattr(account_module, "read_page", fail)
            with pytest.raises(KeyboardInterrupt):
                world.sink.purge_deleted(10)
        assert world.query("SELECT count(*) FROM record") == [(300,)]
        host.post(author, ("create", f"{POST}/{author.new_rkey()}", post("back")))
        host.tell(author, True)
        wait_until(lambda: world.follows(author), PATIENCE, "followed again")
        wait_until(lambda: len(reader.found("back")) == 1, PATIENCE, "searchable")
    assert all(reader.sees(author).values())
    with world.pool.connection() as conn:
        assert recount_stats(conn).ok
        assert rebuild_root(conn, author.did) == author.data
