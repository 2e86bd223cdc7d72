"""Selected collections, from our own servers and from hosts without getBlocks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from crawl_author import post as fake_post
from crawl_world import CrawlWorld, rebuild_root, wait_for_stream, wait_until
from pds_world import Client, World, post, sign_up
from test_crawl_scope import keeping

from audit.auditor import Auditor, Finding
from audit.repo_audit import audit_repo, recount_stats
from audit.samples import Verdict, completeness, note_sample
from crawler.hosts.discovery import request_crawl
from crawler.repos.sparse import SparseRepo, fetch_collections
from network.xrpc.client import XrpcClient
from protocol.identity.keys import parse_did_key
from protocol.repo.commit import parse_commit
from protocol.syntax import Did, tid_from_int
from storage.records.interning import Interner
from storage.repos.scope_rows import ScopeKind, set_scope

POST = "app.bsky.feed.post"
NOTE = "org.example.note"


@pytest.fixture
def world(index_db: str) -> Iterator[CrawlWorld]:
    opened = CrawlWorld(index_db)
    yield opened
    opened.close()


def keep(index: CrawlWorld, *collections: str) -> None:
    with index.pool.connection() as conn:
        set_scope(conn, ScopeKind.NETWORK, keep=collections)


def note(client: Client, number: int) -> str:
    body = {"repo": client.did, "collection": NOTE}
    body |= {"record": {"$type": NOTE, "n": number}}  # type: ignore[dict-item]
    return str(client.post("com.atproto.repo.createRecord", body).json["uri"])


def delete(client: Client, uri: str) -> None:
    rkey = uri.rpartition("/")[2]
    body = {"repo": client.did, "collection": NOTE, "rkey": rkey}
    assert client.post("com.atproto.repo.deleteRecord", body).status == 200


def notes_there(server: Client, did: str) -> set[str]:
    listed = server.get("com.atproto.repo.listRecords", repo=did, collection=NOTE)
    return {record["uri"] for record in listed.json["records"]}


def held(index: CrawlWorld, nsid: str) -> set[str]:
    rows = index.query(
        """
        SELECT did, nsid, record.rkey FROM record
        JOIN actor ON actor.id = record.actor
        JOIN collection ON collection.id = collection WHERE nsid = %s
        """,
        nsid,
    )
    return {f"at://{did}/{nsid}/{tid_from_int(rkey)}" for did, nsid, rkey in rows}


def counts(index: CrawlWorld) -> dict[str, int]:
    return dict(
        index.query(
            "SELECT nsid, count(*)::int FROM record"
            " JOIN collection ON collection.id = collection GROUP BY nsid"
        )
    )


def stands(index: CrawlWorld, server: Client, did: str) -> bool:
    latest = server.get("com.atproto.sync.getLatestCommit", did=did).json
    return index.query("SELECT state, rev FROM repo") == [
        ("synchronized", latest["rev"])
    ]


async def _sparse(index: CrawlWorld, server: Client, did: str) -> SparseRepo:
    async with index.open_clients() as clients:
        document = await clients.resolver.resolve_did(Did(did))
        assert document.signing_key is not None
        key = parse_did_key(document.signing_key)
        client = XrpcClient(clients.fetcher, server.url)
        return await fetch_collections(
            client, Did(did), key, [NOTE], time.time_ns() // 1_000
        )


def look(index: CrawlWorld, did: str) -> Finding:
    async def run() -> Finding:
        async with index.open_clients() as clients:
            auditor = Auditor(
                index.pool, Interner(index.pool), clients.fetcher, repair=True
            )
            return await auditor.check(did)

    return asyncio.run(run())


def test_selected_collections_widen_and_narrow(
    network: World, index: CrawlWorld
) -> None:
    server = network.start_pds()
    alice = sign_up(server, "alice.a.test")
    for number in range(200):
        assert alice.create(post(f"post {number}")).status == 200
    uris = [note(alice, number) for number in range(3)]
    keep(index, NOTE)
    with index.pool.connection() as conn:
        request_crawl(conn, server.url, index.settings())

    whole = len(server.get("com.atproto.sync.getRepo", did=alice.did).body)
    sparse = asyncio.run(_sparse(index, server, alice.did))
    assert len(sparse.records) == 3
    print(f"bytes: {sparse.bytes_read} of chosen collections, {whole} of all")
    assert sparse.bytes_read < whole / 3

    with keeping(index), index.crawling():
        wait_until(lambda: stands(index, server, alice.did))
        assert counts(index) == {NOTE: 3}
        # Live: proven whole, kept in part.
        alice.create(post("passed over"))
        uris.append(note(alice, 9))
        delete(alice, uris[0])
        wait_until(lambda: stands(index, server, alice.did))
        assert held(index, NOTE) == set(uris[1:]) == notes_there(server, alice.did)
        assert counts(index) == {NOTE: 3}
        with index.pool.connection() as conn:
            assert audit_repo(conn, alice.did).keeps == {NOTE}
            assert recount_stats(conn).ok
        assert look(index, alice.did) == Finding(alice.did, Verdict.PARTIAL)
        # Wider: the rest is fetched.
        keep(index)
        wait_until(lambda: counts(index).get(POST) == 201)
        wait_until(lambda: stands(index, server, alice.did))
        assert look(index, alice.did).verdict is Verdict.EQUAL
        with index.pool.connection() as conn:
            [(commit,)] = conn.execute("SELECT commit FROM repo").fetchall()
            assert rebuild_root(conn, alice.did) == parse_commit(commit).data
        # Narrower: pruned, and nothing is asked for.
        keep(index, NOTE)
        wait_until(lambda: counts(index) == {NOTE: 3})
        alice.create(post("passed over"))
        wait_until(lambda: stands(index, server, alice.did))
        assert counts(index) == {NOTE: 3}
    [(posts,)] = index.query("SELECT count(*) FROM post")
    assert posts == 0


def test_wrong_row_of_a_partial_repo_is_repaired(
    network: World, index: CrawlWorld
) -> None:
    server = network.start_pds()
    alice = sign_up(server, "alice.a.test")
    alice.create(post("one"))
    for number in range(3):
        note(alice, number)
    keep(index, NOTE)
    with index.pool.connection() as conn:
        request_crawl(conn, server.url, index.settings())
    with index.crawling():
        wait_until(lambda: stands(index, server, alice.did))
        assert look(index, alice.did).verdict is Verdict.PARTIAL
        with index.pool.connection() as conn:
            conn.execute(
                "DELETE FROM record WHERE rkey = (SELECT min(rkey) FROM record)"
            )
            assert audit_repo_ok(conn, alice.did), "not to be seen without the host"
        assert look(index, alice.did).verdict is Verdict.WRONG
        wait_until(lambda: counts(index) == {NOTE: 3})
        wait_until(lambda: stands(index, server, alice.did))
    assert held(index, NOTE) == notes_there(server, alice.did)
    with index.pool.connection() as conn:
        for verdict in (Verdict.EQUAL, Verdict.PARTIAL, Verdict.UNPROVEN):
            note_sample(conn, 1, verdict, None)
        figure = completeness(conn)
    assert figure.share == pytest.approx(1 / 3), "partial is never whole"
    assert figure.chosen == pytest.approx(2 / 3)


def audit_repo_ok(conn: Any, did: str) -> bool:
    conn.commit()
    return audit_repo(conn, did).ok


def test_host_without_get_blocks_is_fetched_whole(world: CrawlWorld) -> None:
    host = world.add_host()
    a, b = world.add_author(1, host), world.add_author(2, host)
    for author in (a, b):
        author.write([("create", f"{POST}/before", fake_post("before"))])
        author.write([("create", f"{NOTE}/before", {"$type": NOTE, "n": 1})])
    keep(world, NOTE)
    with world.crawling():
        wait_for_stream(host)
        wait_until(lambda: world.follows(a, b))
        assert counts(world) == {NOTE: 2}
        host.post(
            a,
            ("create", f"{POST}/after", fake_post("after")),
            ("create", f"{NOTE}/after", {"$type": NOTE, "n": 2}),
        )
        wait_until(lambda: world.follows(a, b))
        assert counts(world) == {NOTE: 3}
    assert sorted(host.repo_requests) == sorted([a.did, b.did])
    rows = "SELECT count(*) FROM repo WHERE selection IS NOT NULL"
    assert world.query(rows) == [(2,)]
