"""Listings of collection members: slow, endless, busy and missing ones."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from crawl_author import Author
from crawl_scopes import BLOG, choose, people
from crawl_world import CrawlWorld, wait_until
from reconciler_rounds import Rounds, bring_in, scoped
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from network.server.listener import serving_in_thread
from storage.hosts import host_rows


class Listing:
    """Lists members of a collection in one of several ways, and counts requests."""

    def __init__(self, way: str, holders: Sequence[str] = ()) -> None:
        self.way, self.holders, self.requests = way, holders, 0
        path = "/xrpc/com.atproto.sync.listReposByCollection"
        self.app = Starlette(routes=[Route(path, self._list)])

    async def _list(self, request: Request) -> Response:
        self.requests += 1
        n = int(request.query_params.get("cursor") or 0)
        if self.way == "none":
            body = {"error": "MethodNotImplemented", "message": "no"}
            return JSONResponse(body, status_code=501)
        if self.way == "ever busy" or (self.way == "busy" and self.requests == 2):
            return Response(status_code=429, headers={"Retry-After": "1"})
        if self.way == "endless":
            found = [{"did": Author(1_000 * (n + 1) + k).did} for k in range(5)]
            return JSONResponse({"repos": found, "cursor": str(n + 1)})
        if self.way == "silent":
            await asyncio.sleep(30)
        rest = self.holders[n : n + 1]
        body_: dict[str, Any] = {"repos": [{"did": did} for did in rest]}
        if n + 1 < len(self.holders):
            body_["cursor"] = str(n + 1)
        return JSONResponse(body_)


@contextlib.contextmanager
def listing(
    world: CrawlWorld, way: str, holders: Sequence[str] = (), **how: Any
) -> Iterator[Listing]:
    served = Listing(way, holders)
    state = how.pop("state", host_rows.HOST_POLLING)
    how.setdefault("source", host_rows.SOURCE_DOCUMENT)
    with serving_in_thread(served.app) as url:
        with world.pool.connection() as conn:
            host, _ = host_rows.put_host(conn, url.partition("://")[2], url, **how)
            conn.execute("UPDATE host SET state = %s WHERE id = %s", (state, host))
        yield served


def test_no_host_delays_the_reconciler(world: CrawlWorld) -> None:
    host = world.add_host()
    [a] = people(world, host, 1)
    with listing(world, "silent") as silent, listing(world, "endless"):
        choose(world, "collection", collections=[BLOG])
        with Rounds(world) as keeper:
            keeper.look()
            wait_until(lambda: silent.requests)
            choose(world, "dids", a)
            wait_until(lambda: not keeper.look())
            bring_in(world, a)


def test_untrusted_host_names_a_bounded_number(world: CrawlWorld) -> None:
    with listing(world, "endless") as endless:
        choose(world, "collection", collections=[BLOG])
        with Rounds(world, host_accounts_first_day=20) as keeper:
            keeper.look()
            wait_until(lambda: len(scoped(world)) >= 20)
            time.sleep(0.5)
            assert (len(scoped(world)), endless.requests) == (20, 4)


def test_host_without_listing_is_skipped_and_busy_host_continues(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crawler.scope.collection_members._LOOK", 0.2)
    holders = [Author(n).did for n in range(3)]
    with (
        listing(world, "none") as none,
        listing(world, "busy", holders) as busy,
        listing(world, "", state=host_rows.HOST_BANNED) as banned,
    ):
        choose(world, "collection", collections=[BLOG])
        with Rounds(world) as keeper:
            keeper.look()
            wait_until(lambda: scoped(world) == set(holders))
            wait_until(lambda: none.requests)
            time.sleep(0.5)
            asked = none.requests, busy.requests, banned.requests
            assert asked == (1, 4, 0)
            # A day has not passed; a host that we did not know is asked at once.
            monkeypatch.setattr("crawler.scope.collection_members._LOOK", 0.0)
            with listing(world, "", [Author(7).did]):
                time.sleep(0.1)
                keeper.look()
                wait_until(lambda: Author(7).did in scoped(world))
            assert (none.requests, busy.requests) == asked[:2]


def test_slow_listing_does_not_delay_new_hosts(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crawler.scope.collection_members._LOOK", 0.0)
    with listing(world, "ever busy", source=host_rows.SOURCE_CONFIGURED) as busy:
        choose(world, "collection", collections=[BLOG])
        with Rounds(world) as keeper:
            keeper.look()
            wait_until(lambda: busy.requests)
            with listing(world, "", [Author(7).did]):
                # A look for each, as there is one every half minute.
                wait_until(lambda: keeper.look() or Author(7).did in scoped(world))
            asked = busy.requests
            wait_until(lambda: busy.requests > asked)
