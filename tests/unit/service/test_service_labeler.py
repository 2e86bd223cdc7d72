"""The provider as a labeler: another index subscribes to it and believes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import anyio
import httpx
import psycopg

from labels.label_stream import LabelStream
from labels.signed_label import read_label
from network.http.client import Fetcher
from network.http.policy import Policy
from network.server.listener import serving
from network.streams.stream_events import StreamTimes
from protocol.data.json_form import from_json
from protocol.identity.did_document import DidDocument, parse_did_document
from protocol.identity.keys import parse_did_key
from protocol.syntax import Did
from service.moderation import Moderation
from service.provider import create_app
from service.runtime.config import Config
from storage.postgres.pool import Pool, open_pool
from storage.private.private_store import PrivateStore
from storage.records.interning import Interner

POST = "at://did:plc:z72i7hdynmk6r22z27h6tvur/app.bsky.feed.post/3jzfcijpj2z2a"


class _Resolver:
    def __init__(self, document: DidDocument) -> None:
        self._document = document

    async def resolve_did(self, did: str, **_: object) -> DidDocument:
        assert did == self._document.did
        return self._document


async def _labels_of(pool: Pool, count: int) -> dict[str, bool]:
    with anyio.fail_after(20):
        while True:
            with pool.connection() as conn:
                rows = conn.execute("SELECT val, neg FROM label").fetchall()
            if len(rows) >= count:
                return dict(rows)
            await asyncio.sleep(0.05)


async def test_labels_of_the_provider_reach_another_index(
    index_db: str, make_database: Callable[[str], str], tmp_path: Path
) -> None:
    config = Config.read(home=tmp_path)
    did = config.provider_did
    with open_pool(index_db, max=4) as pool, open_pool(index_db, max=2) as names:
        ours = Moderation(config, pool, PrivateStore(pool), Interner(names))

        def issue(val: str, *, neg: bool = False) -> None:
            ours.issue(POST, val, operator="me", reason="x", neg=neg)

        issue("first")
        async with serving(create_app(config, index_db)) as url:
            async with httpx.AsyncClient(base_url=url, timeout=20) as client:
                described = (await client.get("/.well-known/did.json")).json()
                answer = await client.get(
                    "/xrpc/com.atproto.label.queryLabels", params={"uriPatterns": POST}
                )
            # The server of the test has another port than the settings say.
            for service in described["service"]:
                service["serviceEndpoint"] = url
            document = parse_did_document(described, Did(did), dev=True)
            [found] = answer.json()["labels"]
            assert document.label_key is not None
            label = read_label(from_json(found), did)
            assert label.is_signed_by(parse_did_key(document.label_key))
            theirs = make_database("index")
            with open_pool(theirs, max=3) as other:
                async with Fetcher(Policy(allow_loopback=True)) as fetcher:
                    stream = LabelStream(
                        did,
                        fetcher,
                        _Resolver(document),  # type: ignore[arg-type]
                        other,
                        Interner(other),
                        times=StreamTimes(first=0.01),
                    )
                    following = asyncio.create_task(stream.run())
                    assert await _labels_of(other, 1) == {"first": False}
                    issue("second")
                    assert (await _labels_of(other, 2))["second"] is False
                    issue("first", neg=True)
                    issue("third")
                    assert await _labels_of(other, 3) == {
                        "first": True,
                        "second": False,
                        "third": False,
                    }
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
    with psycopg.connect(index_db) as conn:
        [log] = conn.execute("SELECT count(*) FROM moderation_log").fetchall()
    assert log == (4,)
