"""Hosts that name accounts whose domains accept every question and never answer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from crawl_author import Author, identity_frame, post
from crawl_fakes import FakeSink
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crawler.database import Database
from crawler.hosts.host_name import HostName
from crawler.identities.account_lookups import AccountLookups
from crawler.identities.identity_cache import PostgresIdentityCache
from crawler.identities.network_clients import NetworkClients
from crawler.live.gate import Gate
from crawler.live.pipeline import Pipeline
from crawler.live.stream_state import StreamState
from crawler.scope.admission import LOOKUP_JOB
from crawler.settings import CrawlSettings
from network.http.client import Fetcher
from network.http.policy import Policy
from network.identity.resolver import IdentityResolver
from network.server.listener import serving
from protocol.events.frames import encode_frame
from protocol.syntax.did import Did
from storage import jobs
from storage.hosts import host_rows
from storage.postgres.pool import Conn, Pool, open_pool

LIARS = 25
HONEST = "honest.example.com"
LONGEST_LAG = 5.0


@contextlib.asynccontextmanager
async def tar_pit(drip: bytes) -> AsyncIterator[int]:
    """Open a port that accepts everybody, and sends nothing, or headers without an
    end."""
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
    """Return a directory, and the domain of every did:web below localhost that is
    honest."""

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
    """Return how long new accounts of an honest host wait, beside hosts that name
    accounts of domains that never answer."""
    settings, sink = CrawlSettings(dev=True, account_cap=None), FakeSink()
    database, known = Database(pool), dict[str, Author]()
    gate = Gate(settings, run=database.run)
    loop = asyncio.get_running_loop()
    pipeline = Pipeline(
        settings,
        database,
        sink,
        gate,
        on_identities=lambda: loop.call_soon_threadsafe(lookups.wake),
    )
    stop, admitted = asyncio.Event(), dict[str, float]()

    async def watch() -> None:
        while True:
            for did in await asyncio.to_thread(database.run, admitted_dids):
                admitted.setdefault(did, time.monotonic())
            await asyncio.sleep(0.02)

    async with (
        tar_pit(b"") as silent,
        tar_pit(b"x") as dripping,
        serving(documents(known)) as url,
        Fetcher(Policy(allow_loopback=True)) as fetcher,
    ):
        cache = PostgresIdentityCache(pool)
        resolver = IdentityResolver(fetcher, url, cache, dev=True)
        lookups = AccountLookups(
            settings, database, sink, NetworkClients(fetcher, resolver)
        )
        working = asyncio.create_task(lookups.run(stop))
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
                if n == 1:
                    watching = asyncio.create_task(watch())
                await asyncio.sleep(0.05)
            deadline = time.monotonic() + LONGEST_LAG
            while len(admitted) < len(sent) and time.monotonic() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            watching.cancel()
            left = await asyncio.to_thread(database.run, jobs.count_jobs)
            assert left[LOOKUP_JOB] > LIARS, "the liars' accounts wait still"
        finally:
            await pipeline.finish()
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        missing = float("inf")
        return sorted(admitted.get(did, missing) - at for did, at in sent.items())


def admitted_dids(conn: Conn) -> list[str]:
    rows = conn.execute("SELECT did FROM actor JOIN repo ON actor = id").fetchall()
    return [row[0] for row in rows]


@pytest.mark.slow
def test_silent_domains_do_not_delay_accounts_of_other_hosts(index_db: str) -> None:
    with open_pool(index_db, min=1, max=4) as pool:
        lags = asyncio.run(measure(pool))
    assert len(lags) == 40
    assert lags[-1] < LONGEST_LAG, f"the longest lag was {lags[-1]:.1f} s"
    assert lags[len(lags) // 2] < 1.0
