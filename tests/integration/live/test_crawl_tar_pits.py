"""Hosts that name accounts whose domains accept every question and never answer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from crawl_author import Author, identity_frame, post
from crawl_fakes import FakeApplied, FakeSink
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crawler.database import Database
from crawler.hosts.host_name import HostName
from crawler.identities.lookups import Lookups
from crawler.live.gate import Gate
from crawler.live.pipeline import Pipeline
from crawler.live.stream_state import StreamState
from crawler.settings import CrawlSettings
from network.http.client import Fetcher
from network.http.policy import Policy
from network.identity.resolver import IdentityResolver
from network.server.listener import serving
from protocol.events.event import Event
from protocol.events.frames import encode_frame
from protocol.syntax.did import Did
from storage.hosts import host_rows
from storage.postgres.pool import Pool, open_pool

LIARS = 25
HONEST = "honest.example.com"
LONGEST_LAG = 5.0


@dataclass
class TimedSink(FakeSink):
    """When each account's last event was applied."""

    applied_at: dict[str, float] = field(default_factory=dict)

    def apply(self, events: Sequence[Event], cursors: Mapping[int, int]) -> FakeApplied:
        for event in events:
            self.applied_at[event.did] = time.monotonic()
        return super().apply(events, cursors)


@contextlib.asynccontextmanager
async def tar_pit(drip: bytes) -> AsyncIterator[int]:
    """A port that accepts everybody, and sends nothing, or headers without an end."""
    writers: set[asyncio.StreamWriter] = set()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with contextlib.suppress(OSError):
            writer.write(drip and b"HTTP/1.1 200 OK\r\nContent-Type: ")
            while not reader.at_eof():
                writer.write(drip)
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await reader.read(4_096)
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0.6)


def documents(known: dict[str, Author]) -> Starlette:
    """A directory, and the domain of every did:web below localhost that is honest."""

    async def answer(request: Request) -> Response:
        did = request.url.path.strip("/")
        if did.startswith(".well-known"):
            did = "did:web:" + request.headers["host"].replace(":", "%3A")
        if did not in known:
            return JSONResponse({}, 404)
        key = known[did].key.public.multikey
        method = {"id": f"{did}#atproto", "type": "Multikey", "controller": did}
        service = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer"}
        return JSONResponse(
            {
                "id": did,
                "verificationMethod": [method | {"publicKeyMultibase": key}],
                "service": [service | {"serviceEndpoint": f"https://{HONEST}"}],
            }
        )

    return Starlette(routes=[Route("/{path:path}", answer)])


def add_host(pool: Pool, name: str) -> StreamState:
    with pool.connection() as conn:
        source = host_rows.SOURCE_REQUEST_CRAWL
        host, _ = host_rows.put_host(conn, name, f"https://{name}", source=source)
    return StreamState(host, HostName(name))


async def measure(pool: Pool) -> list[float]:
    """The lags of an honest host's newcomers, beside hosts that ask for tar-pits."""
    settings, sink, lookups = CrawlSettings(dev=True), TimedSink(), None
    database, known = Database(pool), dict[str, Author]()

    def ask(did: Did, refresh: bool, host: int) -> None:
        assert lookups is not None
        lookups.request(did, refresh, host)

    gate = Gate(settings, run=database.run, look_up=ask)
    pipeline = Pipeline(settings, database, sink, gate)
    async with (
        tar_pit(b"") as silent,
        tar_pit(b"x") as dripping,
        serving(documents(known)) as url,
        Fetcher(Policy(allow_loopback=True)) as fetcher,
    ):
        resolver = IdentityResolver(fetcher, url, dev=True)
        lookups = Lookups(
            resolver,
            pipeline.answer,
            limit=settings.lookups_at_once,
            per_host=settings.lookups_per_host,
            patience=settings.lookup_patience,
        )
        pipeline.start()
        try:
            for n in range(LIARS):
                liar = add_host(pool, f"liar{n}.example.com")
                pit = (silent, dripping)[n % 2]
                for m in range(1, 201):
                    did = f"did:web:a{m}.b{n}.localhost%3A{pit}"
                    await pipeline.put(liar, identity_frame(did, m))
                body = {"repo": f"did:web:b{n}.localhost%3A{pit}", "x": "x" * 4_000_000}
                await pipeline.put(liar, encode_frame("#commit", body | {"seq": 999}))
            honest, sent = add_host(pool, HONEST), dict[str, float]()
            port = url.rsplit(":", 1)[1]
            for n in range(1, 41):
                author = Author(n)
                if n % 4 == 0:
                    author.did = Did(f"did:web:u{n}.localhost%3A{port}")
                known[author.did] = author
                author.write([("create", "app.bsky.feed.post/a", post("hi"))])
                sent[author.did] = time.monotonic()
                await pipeline.put(honest, author.frame(n))
                await asyncio.sleep(0.05)
            deadline = time.monotonic() + LONGEST_LAG
            while len(sink.applied_at) < len(sent):
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.05)
            assert pipeline.lookups_waiting > 0, "the liars' accounts wait still"
        finally:
            await lookups.close()
            await pipeline.finish()
        missing = float("inf")
        return sorted(
            sink.applied_at.get(did, missing) - at for did, at in sent.items()
        )


@pytest.mark.slow
def test_domains_that_never_answer_keep_no_honest_host_waiting(index_db: str) -> None:
    with open_pool(index_db, min=1, max=4) as pool:
        lags = asyncio.run(measure(pool))
    assert len(lags) == 40
    assert lags[-1] < LONGEST_LAG, f"the longest lag was {lags[-1]:.1f} s"
    assert lags[len(lags) // 2] < 1.0
