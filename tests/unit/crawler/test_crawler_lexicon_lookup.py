"""Lexicons of new collections: folder, DNS and proof, and what follows from them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crawler.identities.network_clients import NetworkClients
from crawler.lexicon_lookup import LexiconLookup, queue_lookup
from network.http.client import Fetcher
from network.http.policy import Policy
from network.identity.lexicon_source import SCHEMA_COLLECTION, lexicon_domain
from network.server.listener import serving_in_thread
from protocol.data.cbor import encode
from protocol.data.cid import cid_for
from protocol.data.json_form import from_json
from protocol.identity.did_document import DidDocument
from protocol.identity.keys import PrivateKey
from protocol.mst import build_nodes, build_root
from protocol.repo.car import car_block, car_header
from protocol.repo.commit import sign_commit
from protocol.syntax import Did, TidClock
from storage.lexicons import fetch_lexicons, fetch_plans, put_lexicon, requeue_step
from storage.postgres.pool import Conn, Pool
from storage.records.interning import Interner

DID = Did("did:plc:" + "l" * 24)
NSID = "org.example.blog.entry"
OTHER = "org.example.blog.defs"
TEXT = {"type": "string"}
ENTRY: dict[str, Any] = {
    "$type": SCHEMA_COLLECTION,
    "lexicon": 1,
    "id": NSID,
    "defs": {
        "main": {
            "type": "record",
            "key": "tid",
            "record": {
                "type": "object",
                "properties": {
                    "title": TEXT,
                    "body": {"type": "ref", "ref": f"{OTHER}#body"},
                },
            },
        }
    },
}
DEFS: dict[str, Any] = {
    "$type": SCHEMA_COLLECTION,
    "lexicon": 1,
    "id": OTHER,
    "defs": {"body": {"type": "object", "properties": {"words": TEXT}}},
}


class Publisher:
    """A repo of lexicons, its server, and the DNS that names it."""

    def __init__(self) -> None:
        self.key = PrivateKey.generate("k256")
        self.records: dict[str, Any] = {NSID: ENTRY, OTHER: DEFS}
        self.txt = {lexicon_domain(NSID): [f"did={DID}", "v=spf1"]}
        self.asked: list[str] = []
        self.url = ""

    async def look_up_txt(self, name: str) -> Sequence[str]:
        self.asked.append(name)
        return self.txt.get(name, [])

    async def resolve_did(self, did: Did) -> DidDocument:
        key = self.key.public.did_key
        return DidDocument(did, (), key, None, self.url, ())

    async def serve(self, request: Request) -> Response:
        """Answer getRecord with the whole tree, which proves presence and absence."""
        blocks = {
            f"{SCHEMA_COLLECTION}/{name}".encode(): encode(from_json(value))
            for name, value in sorted(self.records.items())
        }
        if request.query_params["rkey"] == "org.example.blog.broken":
            return JSONResponse({"error": "x", "message": "y"}, 500)
        items = [(path, cid_for(block)) for path, block in blocks.items()]
        commit = sign_commit(
            DID,
            build_root(items),
            TidClock(1, lambda: 1_700_000_000_000_000).next(),
            self.key,
        )
        root = cid_for(commit)
        parts = [car_header(root), car_block(root, commit)]
        parts += [car_block(node.cid, node.raw) for node in build_nodes(items)]
        parts += [car_block(cid_for(block), block) for block in blocks.values()]
        return Response(b"".join(parts), media_type="application/vnd.ipld.car")


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = Publisher()
    path = "/xrpc/com.atproto.sync.getRecord"
    app = Starlette(routes=[Route(path, publisher.serve)])
    with serving_in_thread(app) as url:
        publisher.url = url
        yield publisher


def make_lookup(
    pool: Pool, publisher: Publisher, folder: Path | None = None
) -> LexiconLookup:
    @asynccontextmanager
    async def open_clients() -> AsyncIterator[NetworkClients]:
        async with Fetcher(Policy(allow_loopback=True)) as fetcher:
            yield NetworkClients(fetcher, publisher)  # type: ignore[arg-type]

    return LexiconLookup(
        pool, open_clients, folder, make_txt=lambda: publisher.look_up_txt
    )


def test_domain_of_an_nsid() -> None:
    assert lexicon_domain("com.example.Blog.getEntry") == "_lexicon.blog.example.com"
    assert lexicon_domain("com.example.thing") == "_lexicon.example.com"


def test_lexicon_of_a_new_collection_is_found_with_its_references(
    pool: Pool, conn: Conn, interner: Interner, publisher: Publisher
) -> None:
    interner.collections([NSID])
    lookup = make_lookup(pool, publisher)
    assert lookup.run() == {"files": 0, "new": 1, "found": 1, "requeued": 0}
    before = fetch_plans(conn, [NSID])[NSID]
    assert before["types"][NSID] == {"title": ["title"], "body": [""]}
    conn.rollback()
    # The lexicon that it refers to was queued, and completes it.
    assert lookup.look_up() == 1
    after = fetch_plans(conn, [NSID])[NSID]
    assert after["types"][f"{OTHER}#body"] == {"words": ["text"]}
    assert conn.execute("SELECT FROM job").fetchall() == []
    assert publisher.asked == ["_lexicon.blog.example.org"] * 2


@pytest.mark.parametrize("kind", ["no DNS", "two DIDs", "absent", "forged", "broken"])
def test_unproven_lexicon_is_tried_later(
    pool: Pool, conn: Conn, interner: Interner, publisher: Publisher, kind: str
) -> None:
    nsid = NSID
    if kind == "no DNS":
        publisher.txt.clear()
    elif kind == "two DIDs":
        publisher.txt[lexicon_domain(NSID)].append("did=did:plc:" + "m" * 24)
    elif kind == "absent":
        del publisher.records[NSID]
    elif kind == "broken":
        nsid = "org.example.blog.broken"
    else:
        key, publisher.key = publisher.key, PrivateKey.generate("k256")

        async def resolve(did: Did) -> DidDocument:
            return DidDocument(did, (), key.public.did_key, None, publisher.url, ())

        publisher.resolve_did = resolve  # type: ignore[method-assign]
    interner.collections([nsid])
    lookup = make_lookup(pool, publisher)
    assert lookup.run()["found"] == 0
    held = fetch_lexicons(conn, [nsid])[nsid]
    assert held.document is None
    assert held.error
    [(tries, later)] = conn.execute(
        "SELECT tries, not_before > now() + interval '50 minutes' FROM job"
    ).fetchall()
    assert (tries, later) == (1, True)
    conn.rollback()
    assert lookup.run() == {"files": 0, "new": 0, "found": 0, "requeued": 0}


def test_shipped_lexicon_needs_no_lookup(
    pool: Pool, conn: Conn, interner: Interner, publisher: Publisher
) -> None:
    nsid = "app.bsky.notification.declaration"
    interner.collections([nsid])
    assert make_lookup(pool, publisher).run()["found"] == 1
    assert publisher.asked == []
    assert nsid in fetch_plans(conn, [nsid])


def test_folder_is_read_again_when_it_changes(
    pool: Pool, conn: Conn, publisher: Publisher, tmp_path: Path
) -> None:
    lookup = make_lookup(pool, publisher, tmp_path)
    file = tmp_path / "deep" / "entry.json"
    file.parent.mkdir()
    file.write_text(json.dumps(ENTRY))
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "nul.json").write_text(json.dumps(DEFS | {"description": "a\0b"}))
    assert lookup.read_folder() == 1
    assert lookup.read_folder() == 0
    changed = json.loads(json.dumps(ENTRY))
    changed["defs"]["main"]["record"]["properties"]["headline"] = TEXT
    file.write_text(json.dumps(changed))
    assert lookup.read_folder() == 1
    assert "headline" in fetch_plans(conn, [NSID])[NSID]["types"][NSID]
    # The network does not replace what the operator gave.
    conn.rollback()
    with pool.connection() as other:
        queue_lookup(other, NSID)
    assert lookup.look_up() >= 1
    assert fetch_lexicons(conn, [NSID])[NSID].source == "folder"


def test_new_plan_requeues_records_in_batches(conn: Conn, interner: Interner) -> None:
    collection = interner.collections([NSID])[NSID]
    conn.execute(
        "INSERT INTO listed_record (rkey, indexed_at, actor, collection)"
        " SELECT n, now() - make_interval(secs => n / 3), 1, %s"
        " FROM generate_series(1, 10) n",
        (collection,),
    )
    plan = {"root": NSID, "types": {NSID: {"title": ["title"]}}}
    assert put_lexicon(conn, NSID, "folder", "{}", plan, [])
    steps = []
    while step := requeue_step(conn, limit=4):
        steps.append(step)
    assert steps == [4, 4, 2]
    queued = conn.execute("SELECT rkey FROM search_outbox").fetchall()
    assert sorted(row[0] for row in queued) == [*range(1, 11)]
    # The same plan again changes nothing.
    assert not put_lexicon(conn, NSID, "folder", "{}", plan, [])
    assert requeue_step(conn, limit=4) == 0
