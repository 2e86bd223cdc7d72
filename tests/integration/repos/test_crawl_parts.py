"""Parts of repos from our own servers: chosen collections, and what changed since."""

from __future__ import annotations

import asyncio
import time

import pytest
from crawl_world import CrawlWorld, rebuild_root
from pds_world import Client, World, post, sign_up

from crawler.database import Database
from crawler.hosts.discovery import request_crawl
from crawler.repos.backfill import Backfill, BackfillReport
from crawler.repos.repo_gatherer import RepoGatherer
from crawler.repos.sparse import SparseRepo, fetch_collections
from network.xrpc.client import XrpcClient
from protocol.identity.keys import parse_did_key
from protocol.repo.commit import parse_commit
from protocol.syntax import Did
from storage.repos import repo_rows

POST = "app.bsky.feed.post"
NOTE = "org.example.note"


def test_sparse_fetch_of_one_collection(network: World, index: CrawlWorld) -> None:
    server = network.start_pds()
    alice = sign_up(server, "alice.a.test")
    for number in range(25):
        alice.create(post(f"post {number}"))
    written = alice.post(
        "com.atproto.repo.createRecord",
        {"repo": alice.did, "collection": NOTE, "record": {"$type": NOTE, "n": 1}},
    ).json["uri"]

    async def fetch() -> SparseRepo:
        async with index.open_clients() as clients:
            document = await clients.resolver.resolve_did(Did(alice.did))
            assert document.signing_key is not None
            key = parse_did_key(document.signing_key)
            client = XrpcClient(clients.fetcher, server.url)
            return await fetch_collections(
                client, Did(alice.did), key, [NOTE], time.time_ns() // 1_000
            )

    found = asyncio.run(fetch())
    latest = server.get("com.atproto.sync.getLatestCommit", did=alice.did).json
    assert found.head.rev == latest["rev"]
    [record] = found.records
    assert f"at://{alice.did}/{record.collection}/{record.rkey}" == written


def test_fetch_since_a_rev(network: World, index: CrawlWorld) -> None:
    server = network.start_pds()
    alice = sign_up(server, "alice.a.test")
    uris = [alice.create(post(f"post {number}")).json["uri"] for number in range(30)]
    with index.pool.connection() as conn:
        request_crawl(conn, server.url, index.settings())
    [(host,)] = index.query("SELECT id FROM host")
    with index.pool.connection() as conn:
        repo_rows.add_repos(conn, host, [alice.did])

    first = asyncio.run(_backfill(index))
    assert (first.fetched, first.updated) == (1, 0)
    assert _stands(index, server, alice)
    for uri in uris[:5]:
        rkey = uri.rpartition("/")[2]
        alice.post(
            "com.atproto.repo.deleteRecord",
            {"repo": alice.did, "collection": POST, "rkey": rkey},
        )
    alice.create(post("after"))
    with index.pool.connection() as conn:
        assert repo_rows.mark_desynchronized(conn, [alice.did], "for the test") == 1
    again = asyncio.run(_backfill(index))
    assert (again.fetched, again.updated) == (1, 1)
    assert _stands(index, server, alice)


def test_no_repo_is_claimed_while_a_batch_waits(
    network: World, index: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = network.start_pds()
    alice = sign_up(server, "alice.a.test")
    with index.pool.connection() as conn:
        request_crawl(conn, server.url, index.settings())
    [(host,)] = index.query("SELECT id FROM host")
    with index.pool.connection() as conn:
        repo_rows.add_repos(conn, host, [alice.did])
    with monkeypatch.context() as patch:
        patch.setattr(RepoGatherer, "full", True)
        assert asyncio.run(_backfill(index)).fetched == 0
        assert index.query("SELECT lease_until FROM repo") == [(None,)]
    assert asyncio.run(_backfill(index)).fetched == 1


async def _backfill(index: CrawlWorld) -> BackfillReport:
    async with index.open_clients() as clients:
        backfill = Backfill(index.settings(), Database(index.pool), index.sink, clients)
        return await backfill.run_batch(10, seconds=60.0)


def _stands(index: CrawlWorld, server: Client, alice: Client) -> bool:
    latest = server.get("com.atproto.sync.getLatestCommit", did=alice.did).json
    [(state, rev, commit)] = index.query("SELECT state, rev, commit FROM repo")
    with index.pool.connection() as conn:
        root = rebuild_root(conn, alice.did)
    return bool(
        state == "synchronized"
        and rev == latest["rev"]
        and parse_commit(commit).data == root
    )
