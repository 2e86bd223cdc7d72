from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from loopback_peers import until

from network.errors import XrpcError
from network.server import spool as spool_module
from network.server.admission import client_key
from network.server.client_watch import ClientGoneError
from network.server.listener import serving
from network.server.spool import ReaderTooSlowError, Spool, Spooler
from network.xrpc.server import Call, Reply, XrpcServer
from protocol.lexicon import Catalog

GET_REPO = "com.atproto.sync.getRepo"
PATH = f"/xrpc/{GET_REPO}?did=did:plc:{'a' * 24}"


def of(pieces: int, size: int = 1_000_000) -> Callable[[Spool], None]:
    return lambda spool: spool.writelines(bytes(size) for _ in range(pieces))


async def test_spool_is_read_back_and_released(tmp_path: Any) -> None:
    spooler = Spooler(memory=1_000, folder=tmp_path)
    reader = await spooler.fill("a", lambda spool: spool.write(b"x" * 600_000))
    assert (reader.size, spooler.held) == (600_000, 1)
    assert b"".join([chunk async for chunk in reader]) == b"x" * 600_000
    assert (spooler.held, spooler._bytes) == (0, 0)
    await (await spooler.fill("a", of(1))).aclose()
    assert (spooler.held, spooler._bytes) == (0, 0)
    assert not list(tmp_path.iterdir())


async def test_spools_are_bounded_per_client_and_in_total() -> None:
    spooler = Spooler(held=3, per_client=2, total=5_000_000)
    held = [await spooler.fill("a", of(1)) for _ in range(2)]
    await refused(spooler.fill("a", of(1)), 429)
    held.append(await spooler.fill("b", of(1)))
    await refused(spooler.fill("c", of(1)), 503)
    await held.pop().aclose()
    await refused(spooler.fill("c", of(9)), 503)
    assert spooler._bytes == 2_000_000
    await (await spooler.fill("c", of(3))).aclose()
    for reader in held:
        await reader.aclose()


async def refused(filling: Any, status: int) -> None:
    with pytest.raises(XrpcError) as caught:
        await filling
    assert caught.value.status == status
    assert int(caught.value.headers["Retry-After"]) > 0


async def test_concurrent_writes_and_waiting_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spool_module, "_WAIT_S", 0.05)
    spooler = Spooler(writing=1)
    release = threading.Event()
    first = asyncio.create_task(spooler.fill("a", lambda _: release.wait() and None))
    await asyncio.sleep(0)
    await refused(spooler.fill("b", of(1)), 503)
    release.set()
    await (await first).aclose()
    assert spooler.held == 0


async def test_slow_reader_loses_its_spool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_GRACE_S", 0.0)
    monkeypatch.setattr(spool_module, "_BYTES_PER_S", 1e9)
    spooler = Spooler()
    reader = await spooler.fill("a", of(3))
    assert await anext(reader)
    await asyncio.sleep(0.01)
    with pytest.raises(ReaderTooSlowError):
        await anext(reader)
    assert spooler.held == 0


@asynccontextmanager
async def downloads(spooler: Spooler) -> AsyncIterator[tuple[str, int]]:
    async def get_repo(call: Call) -> Reply:
        client = client_key(call.request.scope)
        return Reply(await spooler.fill(client, of(10)))

    server = XrpcServer(Catalog.load())
    server.add(GET_REPO, get_repo)
    async with serving(server.app()) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        yield host, int(port)


async def test_disconnected_reader_releases_its_spool() -> None:
    spooler = Spooler()
    async with downloads(spooler) as (host, port):
        reader, writer = await asyncio.open_connection(host, port, limit=1_000)
        writer.write(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 10000000" in head.lower()
        assert spooler.held == 1
        writer.transport.abort()
        await until(lambda: spooler.held == 0)
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"HEAD {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        assert spooler.held == 0
        writer.close()


async def test_writing_stops_when_the_client_disconnects() -> None:
    spooler = Spooler()
    gone = threading.Event()
    written: list[int] = []

    def write(spool: Spool) -> None:
        for number in range(10):
            spool.write(b"x")
            written.append(number)
            if number == 3:
                gone.set()

    with pytest.raises(ClientGoneError):
        await spooler.fill("a", write, gone.is_set)
    assert len(written) == 4
    assert (spooler.held, spooler._bytes) == (0, 0)
