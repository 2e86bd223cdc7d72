"""A trusted relay: its listing, its frames, and the hosts behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from crawl_author import account_frame, post
from crawl_world import CrawlWorld, rebuild_root, wait_for_stream, wait_until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crawler.tasks import CrawlTasks
from network.server.listener import serving_in_thread
from storage.hosts import host_rows
from storage.repos import repo_rows


@pytest.fixture
def world(index_db: str) -> Iterator[CrawlWorld]:
    opened = CrawlWorld(index_db)
    yield opened
    opened.close()


def test_relay_forwards_and_hosts_serve_the_repos(world: CrawlWorld) -> None:
    relay = world.add_host(relay=True)
    pds = [world.add_host(known=False) for _ in range(3)]
    authors = [world.add_author(n, pds[n % 3]) for n in range(6)]
    for author in authors:
        # Older than the relay's tip, so the first forwarded commit is no beginning.
        author.write([("create", f"app.bsky.feed.post/{author.new_rkey()}", post("1"))])
    with world.crawling() as firehose:
        wait_for_stream(relay)
        for n in range(3):
            for author in authors:
                path = f"app.bsky.feed.post/{author.new_rkey()}"
                relay.post(author, ("create", path, post(f"post {n}")))
        wait_until(lambda: world.follows(*authors))
        assert firehose.streams == 1, "hosts behind a relay are not streamed"
        relay.send(lambda seq: account_frame(authors[0].did, seq, False, "deactivated"))
        wait_until(
            lambda: (
                world.query(
                    "SELECT count(*) FROM actor WHERE upstream_status = 'deactivated'"
                )
                == [(1,)]
            )
        )
    assert relay.repo_requests == []
    assert sum(len(host.repo_requests) for host in pds) == 6
    states = dict(world.query("SELECT state, count(*) FROM host GROUP BY state"))
    assert states == {host_rows.HOST_STREAMING: 1, host_rows.HOST_RELAYED: 3}
    with world.pool.connection() as conn:
        for author in authors:
            assert rebuild_root(conn, author.did) == author.data


def test_broken_frame_of_a_relay_is_skipped_and_repaired(world: CrawlWorld) -> None:
    relay = world.add_host(relay=True)
    pds = world.add_host(known=False)
    author = world.add_author(1, pds)
    with world.crawling():
        wait_for_stream(relay)
        relay.post(author, ("create", "app.bsky.feed.post/a", post("a")))
        wait_until(lambda: world.follows(author))
        # The relay garbles one commit for good.
        author.write([("create", "app.bsky.feed.post/b", post("b"))])
        relay.send(lambda seq: author.frame(seq)[:-1])
        other = world.add_author(2, pds)
        relay.post(other, ("create", "app.bsky.feed.post/a", post("a")))
        wait_until(lambda: world.follows(other), seconds=40)
        # A comparison of the hosts behind finds what the garbled frame said.
        wait_until(lambda: world.follows(author), seconds=40)
    with world.pool.connection() as conn:
        assert rebuild_root(conn, author.did) == author.data


class _ListingRelay:
    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.loop = False
        self.requests = 0

    def app(self) -> Starlette:
        path = "/xrpc/com.atproto.sync.listHosts"
        return Starlette(routes=[Route(path, self._list_hosts)])

    async def _list_hosts(self, request: Request) -> Response:
        self.requests += 1
        start = int(request.query_params.get("cursor") or 0)
        page = self.names[start : start + 100]
        body = {"hosts": [{"hostname": name, "status": "active"} for name in page]}
        if self.loop or start + 100 < len(self.names):
            body["cursor"] = "0" if self.loop else str(start + 100)  # type: ignore[assignment]
        return JSONResponse(body)


def test_relay_listing_adds_hosts(world: CrawlWorld) -> None:
    names = [f"pds{n}.example.com" for n in range(250)]
    relay = _ListingRelay([*names, "127.0.0.1", "PDS1.Example.com.", "x y"])
    with ExitStack() as stack:
        url = stack.enter_context(serving_in_thread(relay.app()))
        base = world.tasks()
        tasks = CrawlTasks(
            base.settings, base.pool, base.index, base.open_clients, (), (url,)
        )
        assert tasks.discover_hosts() == {"new": 251, "failed": 0, "plc": 0}
        assert tasks.discover_hosts() == {"new": 0, "failed": 0, "plc": 0}
        relay.loop = True
        relay.requests = 0
        assert tasks.discover_hosts() == {"new": 0, "failed": 0, "plc": 0}
        assert relay.requests <= 2
    with world.pool.connection() as conn:
        known = host_rows.load_hosts(conn).values()
    # Loopback is a host in development only; nobody is dialled for being listed.
    assert sum(host.state == host_rows.HOST_RELAYED for host in known) == 251
    assert [host.relay for host in known].count(True) == 1
    assert tasks.discover_hosts()["failed"] == 1, "the relay is gone now"


def test_repo_of_a_killed_worker_is_claimed_again(world: CrawlWorld) -> None:
    host = world.add_host()
    author = world.add_author(1, host)
    author.write([("create", "app.bsky.feed.post/a", post("a"))])
    tasks = world.tasks()
    tasks.list_repos()
    with world.pool.connection() as conn:
        [claimed] = repo_rows.claim_repos(conn, limit=1, lease_s=60, per_host=1)
    assert claimed.did == author.did
    # Claimed by somebody who will never come back.
    assert tasks.hand_out_backfills()["fetched"] == 0
    world.execute("UPDATE repo SET lease_until = now()")
    assert tasks.hand_out_backfills()["fetched"] == 1
    assert tasks.hand_out_backfills()["fetched"] == 0
    assert world.follows(author)
