"""Our crawler with our own directory and servers."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from crawl_world import CrawlWorld, rebuild_root, wait_until
from pds_world import Client, World, post, sign_up

from crawler.hosts.discovery import request_crawl
from crawler.identities.network_clients import clients_opener
from network.http.policy import HostLimits
from protocol.data.cid import cid_for
from protocol.repo.commit import parse_commit


@pytest.fixture
def index(index_db: str, network: World) -> Iterator[CrawlWorld]:
    opened = CrawlWorld(index_db)
    yield opened
    opened.close()


def _follow(index: CrawlWorld, network: World, *servers: Client) -> None:
    """Request a crawl, and let the crawler resolve by itself."""
    settings = index.settings()
    index.open_clients = clients_opener(
        index.pool,
        settings,
        plc_url=network.plc_url,
        dev_pds=[server.url for server in servers],
        host_limits=HostLimits(rate=1_000, burst=1_000, concurrency=16),
    )
    with index.pool.connection() as conn:
        for server in servers:
            request_crawl(conn, server.url, settings)


def _equal(index: CrawlWorld, server: Client, did: str) -> bool:
    """Return True if our rows rebuild the root of the server's own latest commit."""
    latest = server.get("com.atproto.sync.getLatestCommit", did=did).json
    with index.pool.connection() as conn:
        row = conn.execute(
            "SELECT state, rev, commit FROM repo JOIN actor ON actor.id = actor"
            " WHERE did = %s",
            (did,),
        ).fetchone()
        if row is None or row[0] != "synchronized" or row[1] != latest["rev"]:
            return False
        commit = parse_commit(row[2])
        assert cid_for(row[2]) is not None
        return rebuild_root(conn, did) == commit.data


def test_old_and_new_accounts_of_our_servers_are_indexed(
    index: CrawlWorld, network: World
) -> None:
    a, b = network.start_pds("a"), network.start_pds("b")
    alice = sign_up(a, "alice.a.test")
    for n in range(5):
        assert alice.create(post(f"before {n}")).status == 200
    _follow(index, network, a, b)
    with index.crawling() as firehose:
        wait_until(lambda: _equal(index, a, alice.did))
        wait_until(lambda: firehose.streams == 2)
        bob = sign_up(b, "bob.b.test")
        assert bob.create(post("hello")).status == 200
        started = time.monotonic()
        wait_until(lambda: _equal(index, b, bob.did))
        seen = time.monotonic() - started
        uri = alice.create(post("to be deleted")).json["uri"]
        alice.create(post("after"))
        alice.post(
            "com.atproto.repo.deleteRecord",
            {
                "repo": alice.did,
                "collection": "app.bsky.feed.post",
                "rkey": uri.rpartition("/")[2],
            },
        )
        wait_until(lambda: _equal(index, a, alice.did))
        wait_until(
            lambda: (
                dict(index.query("SELECT did, handle FROM actor"))
                == {alice.did: "alice.a.test", bob.did: "bob.b.test"}
            )
        )
    assert index.query("SELECT count(*) FROM post") == [(7,)]
    assert set(index.drops()) <= {"desynchronized", "stale_rev", "unknown_account"}
    assert seen < 10, "an account is there soon after its birth"


def test_server_downtime_is_caught_up(index: CrawlWorld, network: World) -> None:
    a = network.start_pds("a")
    alice = sign_up(a, "alice.a.test")
    _follow(index, network, a)
    with index.crawling():
        wait_until(lambda: _equal(index, a, alice.did))
        alice.create(post("one"))
        wait_until(lambda: _equal(index, a, alice.did))
    for n in range(10):
        alice.create(post(f"while we were away {n}"))
    with index.crawling():
        wait_until(lambda: _equal(index, a, alice.did))
    assert index.query("SELECT count(*) FROM post") == [(11,)]
