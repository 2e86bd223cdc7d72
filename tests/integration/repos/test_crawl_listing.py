"""The Scrapy crawl of listRepos against real HTTP servers with faults."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from crawl_fakes import FakeResolver, FakeSink, fake_clients
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crawler.settings import CrawlSettings
from crawler.tasks import CrawlTasks
from network.server.listener import serving_in_thread
from protocol.events.event import AccountEvent
from storage.hosts import host_rows
from storage.postgres.pool import Pool
from storage.repos import repo_rows
from storage.repos.scope_rows import ScopeKind, set_scope

REV = "3kaaaaaaaaa22"
NEWER = "3kbbbbbbbbb22"


def did_of(n: int) -> str:
    return (
        f"did:plc:{n:a>24}".replace("0", "z")
        .replace("1", "y")[:32]
        .translate(str.maketrans("89", "wx"))
    )


@dataclass
class ListingHost:
    """Serves listRepos pages of `entries`, with a fault if one is set."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    fault: str = ""
    requests: int = 0
    page: int = 10

    def app(self) -> Starlette:
        path = "/xrpc/com.atproto.sync.listRepos"
        return Starlette(routes=[Route(path, self.list_repos)])

    async def list_repos(self, request: Request) -> Response:
        self.requests += 1
        start = int(request.query_params.get("cursor") or 0)
        match self.fault:
            case "loop":
                return JSONResponse({"repos": self.entries[:2], "cursor": "7"})
            case "same_page":
                return JSONResponse(
                    {"repos": self.entries[:2], "cursor": str(self.requests)}
                )
            case "busy":
                return Response(status_code=429, headers={"Retry-After": "60"})
            case "broken":
                return Response(b'{"repos": [', media_type="application/json")
            case "huge":
                return Response(b" " * 6_000_000, media_type="application/json")
            case "error":
                return JSONResponse({"error": "Oops"}, status_code=500)
            case "forgot" if start:
                return JSONResponse({"error": "InvalidCursor"}, status_code=400)
        page = self.entries[start : start + self.page]
        body: dict[str, Any] = {"repos": page}
        if start + self.page < len(self.entries):
            body["cursor"] = str(start + self.page)
        return JSONResponse(body)


def entry(n: int, rev: str = REV, **more: Any) -> dict[str, Any]:
    return {"did": did_of(n), "head": "bafy", "rev": rev, "active": True} | more


class World:
    def __init__(self, pool: Pool, stack: ExitStack) -> None:
        self.pool = pool
        self.stack = stack
        self.resolver = FakeResolver()
        self.sink = FakeSink()
        self.ids: dict[int, int] = {}

    def serve(
        self, host: ListingHost, source: str = host_rows.SOURCE_CONFIGURED
    ) -> tuple[int, str]:
        url = self.stack.enter_context(serving_in_thread(host.app()))
        url = url.replace("127.0.0.1", "localhost")
        with self.pool.connection() as conn:
            host_id, _ = host_rows.put_host(
                conn,
                url.removeprefix("http://"),
                url,
                source=source,
                state=host_rows.HOST_STREAMING,
            )
        return host_id, url

    def execute(self, sql: str) -> None:
        with self.pool.connection() as conn:
            conn.execute(sql)

    def tasks(self, **settings: Any) -> CrawlTasks:
        settings = {"dev": True, "listing_settle": 0.0} | settings
        return CrawlTasks(
            CrawlSettings(**settings), self.pool, self.sink, fake_clients(self.resolver)
        )

    def known(self) -> dict[str, repo_rows.KnownRepo]:
        with self.pool.connection() as conn:
            dids = [did for (did,) in conn.execute("SELECT did FROM actor")]
            return dict(repo_rows.find_repos(conn, dids))


@pytest.fixture
def world(pool: Pool) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(pool, stack)


def test_new_account_is_admitted_if_its_document_names_the_host(world: World) -> None:
    honest = ListingHost([entry(n) for n in range(25)])
    host, url = world.serve(honest)
    liar_id, liar_url = world.serve(ListingHost([entry(n) for n in range(20, 30)]))
    for n in range(25):
        world.resolver.put(did_of(n), url)
    world.resolver.put(did_of(26), liar_url)
    result = world.tasks().list_repos()
    assert (result["hosts"], result["done"], result["failed"]) == (2, 2, 0)
    known = world.known()
    assert len(known) == 26
    assert {repo.host for did, repo in known.items() if did != did_of(26)} == {host}
    assert known[did_of(26)].host == liar_id
    assert {repo.state for repo in known.values()} == {"desynchronized"}
    assert honest.requests == 3
    # Nothing is due now: a doubled message changes nothing.
    assert world.tasks().list_repos() == {"hosts": 0}


def test_listing_queues_newer_revs_and_applies_statuses(world: World) -> None:
    listing = ListingHost([entry(1, NEWER), entry(2), entry(3)])
    host, _ = world.serve(listing)
    with world.pool.connection() as conn:
        repo_rows.add_repos(conn, host, [did_of(n) for n in (1, 2, 3)])
        conn.execute("UPDATE repo SET state = 'synchronized', rev = %s", (REV,))
    listing.entries[2] |= {"active": False, "status": "takendown"}
    result = world.tasks().list_repos()
    assert result["behind"] == 1
    states = {did: repo.state for did, repo in world.known().items()}
    assert states[did_of(1)] == "desynchronized"
    assert states[did_of(2)] == states[did_of(3)] == "synchronized"
    assert world.sink.events == [
        AccountEvent(did_of(3), False, "takendown", host=host)  # type: ignore[arg-type]
    ]


def test_listing_of_moved_accounts_refreshes_their_documents(world: World) -> None:
    other, _ = world.serve(ListingHost([]))
    told = [entry(n, NEWER) for n in range(30)] + [entry(n) for n in range(30, 40)]
    told[39] |= {"active": False, "status": "deleted"}
    world.serve(ListingHost(told[::-1]))
    with world.pool.connection() as conn:
        repo_rows.add_repos(conn, other, [did_of(n) for n in range(40)])
        conn.execute("UPDATE repo SET state = 'synchronized', rev = %s", (REV,))
    world.tasks().list_repos()
    with world.pool.connection() as conn:
        doubted = {
            key
            for key, doubt in conn.execute("SELECT key, payload ? 'doubt' FROM job")
            if doubt
        }
    assert len(doubted) == 20
    assert doubted <= {did_of(n) for n in (*range(30), 39)}
    assert did_of(39) in doubted
    assert {repo.host for repo in world.known().values()} == {other}
    assert {repo.state for repo in world.known().values()} == {"synchronized"}
    assert world.sink.events == []


@pytest.mark.parametrize("fault", ["loop", "same_page"])
def test_endless_listing_stops_after_two_pages(world: World, fault: str) -> None:
    listing = ListingHost([entry(n) for n in range(4)], fault=fault)
    world.serve(listing)
    assert world.tasks().list_repos()["done"] == 1
    assert listing.requests <= 2


def test_refused_listing_cursor_restarts_the_listing(world: World) -> None:
    listing = ListingHost([entry(1)], fault="forgot")
    host, url = world.serve(listing)
    world.resolver.put(did_of(1), url)
    world.execute("UPDATE host SET list_cursor = '700'")
    assert world.tasks().list_repos()["failed"] == 1
    world.execute("UPDATE host SET next_try = now()")
    assert world.tasks().list_repos()["done"] == 1
    assert list(world.known()) == [did_of(1)]
    # A host that is away keeps its place.
    listing.fault = "error"
    with world.pool.connection() as conn:
        host_rows.request_listing(conn, host)
        conn.execute("UPDATE host SET list_cursor = '700', next_try = now()")
    assert world.tasks().list_repos()["failed"] == 1
    with world.pool.connection() as conn:
        kept = conn.execute("SELECT list_cursor FROM host").fetchone()
    assert kept == ("700",)


def test_bad_host_does_not_stop_other_listings(world: World) -> None:
    bad = {
        fault: ListingHost([entry(1)], fault=fault)
        for fault in ("broken", "huge", "error", "busy")
    }
    ids = {fault: world.serve(host)[0] for fault, host in bad.items()}
    good = ListingHost([entry(n) for n in range(5, 8)])
    _, url = world.serve(good)
    for n in range(5, 8):
        world.resolver.put(did_of(n), url)
    result = world.tasks().list_repos()
    assert (result["hosts"], result["failed"], result["done"]) == (5, 4, 1)
    assert result["admitted"] == 3
    with world.pool.connection() as conn:
        known = host_rows.load_hosts(conn)
        held = conn.execute(
            "SELECT id FROM host WHERE rate_limited_until > now()"
        ).fetchall()
    assert held == [(ids["busy"],)]
    for fault in ("broken", "huge", "error"):
        assert known[ids[fault]].error, fault
        # Only the stream of a streamed host tells if it is away.
        assert known[ids[fault]].tries == 0, fault


def test_accounts_of_untrusted_hosts_are_bounded(world: World) -> None:
    listing = ListingHost([entry(n) for n in range(1_000)], page=500)
    _, url = world.serve(listing, source=host_rows.SOURCE_REQUEST_CRAWL)
    for n in range(1_000):
        world.resolver.put(did_of(n), url)
    result = world.tasks(host_accounts_per_day=100).list_repos()
    assert result["admitted"] == len(world.known()) == 100
    assert len(world.resolver.asked) <= 150


def test_account_cap_holds_for_configured_hosts(world: World) -> None:
    _, url = world.serve(ListingHost([entry(n) for n in range(50)]))
    for n in range(50):
        world.resolver.put(did_of(n), url)
    assert world.tasks(account_cap=7).list_repos()["admitted"] == 7
    assert len(world.known()) == 7


def test_only_chosen_accounts_are_admitted(world: World) -> None:
    _, url = world.serve(ListingHost([entry(n) for n in range(9)]))
    for n in range(9):
        world.resolver.put(did_of(n), url)
    with world.pool.connection() as conn:
        set_scope(conn, ScopeKind.DIDS, seeds=[did_of(4)])
    world.tasks().list_repos()
    assert set(world.known()) == {did_of(4)}


def test_listings_run_repeatedly_from_any_thread(world: World) -> None:
    listing = ListingHost([entry(1)])
    _, url = world.serve(listing)
    world.resolver.put(did_of(1), url)
    results: list[dict[str, int]] = []
    for _ in range(3):
        threads = [
            threading.Thread(
                target=lambda: results.append(
                    world.tasks(listing_interval=0.0).list_repos()
                )
            )
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert len(results) == 6
    # Two at once: one holds the lease, the other finds nothing to do, or comes after.
    assert 3 <= sum(result["hosts"] for result in results) <= 6
    assert listing.requests == sum(result["hosts"] for result in results)
    assert json.dumps(results)
