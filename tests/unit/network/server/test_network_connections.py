"""Idle, slow and endless clients, each on its own socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from loopback_peers import until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from network.server import connections
from network.server import listener as serve
from network.server.connections import ConnectionLimits, Connections
from network.server.listener import serving

OTHER = "127.0.0.2"
PIECE = bytes(65_536)
CHUNKED = b"POST /held HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"


class Site:
    """A small app, its port and its connections."""

    def __init__(self) -> None:
        self.port = 0
        self.bounds: list[Connections] = []
        self.release = asyncio.Event()
        self.ended = asyncio.Event()
        self.pieces = 0
        self.writers: list[asyncio.StreamWriter] = []

    def app(self) -> Starlette:
        async def quick(request: Request) -> Response:
            return PlainTextResponse("quick")

        async def held(request: Request) -> Response:
            await self.release.wait()
            return PlainTextResponse("held")

        async def endless(request: Request) -> Response:
            return StreamingResponse(self._pieces())

        async def large(request: Request) -> Response:
            return PlainTextResponse(b"x" * 20_000_000)

        async def listen(websocket: WebSocket) -> None:
            if "deny" in websocket.query_params:
                await websocket.send_denial_response(PlainTextResponse("no", 503))
                return
            await websocket.accept()
            await websocket.receive()

        return Starlette(
            routes=[
                Route("/", quick, methods=["GET", "POST"]),
                Route("/held", held),
                Route("/endless", endless),
                Route("/large", large),
                WebSocketRoute("/listen", listen),
            ]
        )

    async def _pieces(self) -> AsyncIterator[bytes]:
        try:
            for _ in range(1_000):
                self.pieces += 1
                await asyncio.sleep(0)
                yield PIECE
        finally:
            self.ended.set()

    async def open(
        self, source: str = "127.0.0.1", sent: bytes = b"", **options: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect from `source` and send bytes."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(source, 0), **options
        )
        writer.write(sent)
        self.writers.append(writer)
        return reader, writer

    async def status(self, source: str = "127.0.0.1", path: str = "/") -> int:
        reader, writer = await self.open(source, get(path))
        try:
            async with asyncio.timeout(20):
                return int((await reader.readline()).split()[1])
        finally:
            writer.close()

    @property
    def count(self) -> int:
        return sum(len(bounds) for bounds in self.bounds)


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@asynccontextmanager
async def serve_site(
    monkeypatch: pytest.MonkeyPatch, **limits: Any
) -> AsyncIterator[Site]:
    monkeypatch.setattr(connections, "_SWEEP_S", 0.05)
    made = Site()

    def note(limits: ConnectionLimits | None = None) -> Connections:
        made.bounds.append(Connections(limits))
        return made.bounds[-1]

    monkeypatch.setattr(serve, "Connections", note)
    bound = ConnectionLimits(proxies=(), **limits)
    async with serving(made.app(), limits=bound) as url:
        made.port = int(url.rpartition(":")[2])
        try:
            yield made
        finally:
            made.release.set()
            for writer in made.writers:
                writer.transport.abort()
            await asyncio.sleep(0.05)


async def test_request_head_must_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve_site(monkeypatch, head_s=0.3) as site:
        silent, _ = await site.open()
        slow, writer = await site.open(sent=b"GET / HTTP/1.1\r\n")
        again, next_writer = await site.open(sent=get("/"))
        await again.readuntil(b"quick")
        next_writer.write(b"GET /")

        async def drip() -> None:
            while True:
                writer.write(b"X: 1\r\n")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(20):
            for reader in (silent, slow, again):
                assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        dripping.cancel()
        await until(lambda: site.count == 0)


async def test_idle_sockets_are_replaced_by_new_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serve_site(monkeypatch, total=20, per_address=15) as site:
        idle = [await site.open() for _ in range(60)]
        assert await site.status() == 200
        assert await site.status(OTHER) == 200
        assert site.count <= 20
        # Endless bodies are treated as idle.
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
        idle += [await site.open(sent=head) for _ in range(60)]
        assert await site.status() == 200
        assert await site.status(OTHER) == 200


async def test_one_address_cannot_hold_all_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serve_site(monkeypatch, total=20, per_address=5) as site:
        held = [await site.open(sent=get("/held")) for _ in range(5)]
        await until(lambda: site.count == 5)
        await asyncio.sleep(0.1)
        assert await site.status() == 503
        assert await site.status(OTHER) == 200
        site.release.set()
        for reader, _ in held:
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", ["/endless", "/large"])
async def test_stalled_reader_is_closed(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    async with serve_site(monkeypatch, stall_s=0.5) as site:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.setblocking(False)
        with sock:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, ("127.0.0.1", site.port))
            await loop.sock_sendall(sock, get(path))
            await until(lambda: site.count == 1)
            await until(lambda: site.count == 0)
        if path == "/endless":
            await asyncio.wait_for(site.ended.wait(), 20)
            assert site.pieces < 1_000


async def test_slow_reader_is_not_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve_site(monkeypatch, stall_s=0.5) as site:
        reader, writer = await site.open(sent=get("/endless"), limit=1_000)
        for _ in range(20):
            await asyncio.sleep(0.05)
            await reader.readexactly(400_000)
        assert site.count == 1
        writer.close()


@pytest.mark.parametrize(
    ("start", "piece", "status"),
    [
        (b"GET / HTTP/1.1\r\n", b"X: " + b"a" * 1_000 + b"\r\n", 431),
        (CHUNKED, b"X: " + b"a" * 1_000 + b"\r\n", None),
    ],
)
async def test_endless_heads_and_trailers_are_refused(
    monkeypatch: pytest.MonkeyPatch, start: bytes, piece: bytes, status: int | None
) -> None:
    async with serve_site(monkeypatch) as site:
        reader, writer = await site.open(sent=start)
        for _ in range(200):
            writer.write(piece)
        line = b""
        try:
            async with asyncio.timeout(20):
                line = await reader.readline()
        except ConnectionError:
            pass
        if status is not None:
            assert line.split()[1:2] in ([b"%d" % status], [])
        await until(lambda: site.count == 0)


async def test_pipelined_requests_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve_site(monkeypatch) as site:
        reader, _ = await site.open(sent=get("/held") + 8 * get("/"))
        many, _ = await site.open(sent=get("/held") + 2_000 * get("/"))
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                assert await many.read() == b""
        await until(lambda: site.count == 1)
        site.release.set()
        async with asyncio.timeout(20):
            await reader.readuntil(b"held")
            for _ in range(8):
                await reader.readuntil(b"quick")


def upgrade(path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


async def test_websocket_is_counted_until_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serve_site(monkeypatch, head_s=0.2) as site:
        reader, writer = await site.open(sent=upgrade("/listen"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
        await asyncio.sleep(0.5)
        assert site.count == 1
        writer.close()
        await until(lambda: site.count == 0)


async def test_refused_websocket_logs_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_site(monkeypatch) as site:
        reader, _ = await site.open(sent=upgrade("/listen?deny=1"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
        await until(lambda: site.count == 0)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
