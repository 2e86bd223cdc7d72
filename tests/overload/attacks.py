"""Attacks by clients, one function a kind. Each runs until it is cancelled.

`Target.size` scales them: 1 by default, more in the long run. They reach loopback only.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

ATTACKER: Final = "127.0.0.3"
_BIG: Final = b"[" + b"[]," * 630_000 + b"[]]"


@dataclass(frozen=True, slots=True)
class Target:
    """The server under attack; `did` has a large repo, `ring` is a reply to itself."""

    port: int
    did: str
    ring: str
    size: int


Attack = Callable[[Target], Awaitable[None]]


@asynccontextmanager
async def _connection(
    target: Target,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", target.port, local_addr=(ATTACKER, 0)
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def _ask(target: Target, request: bytes) -> None:
    async with _connection(target) as (reader, writer):
        writer.write(request)
        await reader.read()


def _request(path: str, body: bytes | None = None) -> bytes:
    # A client on another address has limits.
    head = "Host: x\r\nX-Forwarded-For: 203.0.113.7\r\nConnection: close\r\n"
    if body is None:
        return f"GET {path} HTTP/1.1\r\n{head}\r\n".encode()
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def _repeat(target: Target, clients: int, request: bytes) -> None:
    """Send one request over and over from many clients."""

    async def client() -> None:
        while True:
            try:
                await _ask(target, request)
            except OSError:
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())


async def threads_of_a_ring(target: Target) -> None:
    path = f"/xrpc/app.bsky.feed.getPostThread?uri={target.ring}&depth=1000"
    await _repeat(target, 8 * target.size, _request(path))


async def parallel_searches(target: Target) -> None:
    path = "/xrpc/app.bsky.feed.searchPosts?q=quokka"
    await _repeat(target, 16 * target.size, _request(path))


async def downloads_that_are_not_read(target: Target) -> None:
    with ExitStack() as held:
        for _ in range(16 * target.size):
            sock = held.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            sock.bind((ATTACKER, 0))
            sock.connect(("127.0.0.1", target.port))
            path = f"/xrpc/com.atproto.sync.getRepo?did={target.did}"
            sock.sendall(_request(path))
        await asyncio.sleep(3_600)


async def large_bodies(target: Target) -> None:
    path = "/xrpc/com.atproto.sync.requestCrawl"
    await _repeat(target, 4 * target.size, _request(path, _BIG))


async def idle_sockets(target: Target) -> None:
    with ExitStack() as held:
        for number in range(1_000 * target.size + 100):
            sock = held.enter_context(socket.socket())
            sock.bind((ATTACKER, 0))
            sock.connect(("127.0.0.1", target.port))
            if number % 2:
                sock.sendall(b"GET / HTTP/1.1\r\nX: ")
            await asyncio.sleep(0)
        await asyncio.sleep(3_600)


async def many_subscribers(target: Target) -> None:
    upgrade = (
        b"GET /subscribe HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with AsyncExitStack() as held:
        for _ in range(250 * target.size):
            _, writer = await held.enter_async_context(_connection(target))
            writer.write(upgrade)
        await asyncio.sleep(3_600)


async def invented_hosts(target: Target) -> None:
    async def ask(number: int) -> None:
        body = json.dumps({"hostname": f"no-such-host-{number}.invalid"}).encode()
        await _ask(target, _request("/xrpc/com.atproto.sync.requestCrawl", body))

    await asyncio.gather(*(ask(number) for number in range(50 * target.size)))
    await asyncio.sleep(3_600)


async def flood_of_pages(target: Target) -> None:
    await _repeat(target, 16 * target.size, _request("/?q=quokka"))


ATTACKS: Final[tuple[Attack, ...]] = (
    threads_of_a_ring,
    parallel_searches,
    downloads_that_are_not_read,
    large_bodies,
    idle_sockets,
    many_subscribers,
    invented_hosts,
    flood_of_pages,
)
