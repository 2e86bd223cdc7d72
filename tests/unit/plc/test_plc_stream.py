"""The export stream of the directory."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import psycopg
import pytest
from plc_accounts import NOW, SERVER, genesis
from plc_client import Client, Clock

from network.server.listener import serving_in_thread
from network.server.outage import BUSY
from plc import stream
from plc.directory import create_app
from plc.ledger import accept
from plc.operation import DAY_MS
from plc.operation_draft import create_update
from plc.stream import ExportStream
from storage.postgres.pool import Pool

pytestmark = pytest.mark.anyio


async def refused_status(directory: Client, query: str) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await directory.listen(query, 1)
    return caught.value.status


async def test_stream_catches_up_and_continues(
    directory: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PAGE", 2)
    accounts = [genesis(n) for n in range(8)]
    for did, first in accounts[:5]:
        directory.post(did, first)
    exported = directory.get("/export?after=0").lines

    def post_the_rest() -> None:
        for did, first in accounts[5:]:
            directory.post(did, first)

    messages, _ = await directory.listen("?cursor=0", 8, post_the_rest)
    assert messages[:5] == exported
    assert messages == directory.get("/export?after=0").lines
    later, _ = await directory.listen(f"?cursor={exported[3]['seq']}", 4)
    assert later == messages[4:]


async def test_stream_without_a_cursor_starts_at_the_end(directory: Client) -> None:
    directory.post(*genesis())
    new = genesis("new.test")
    messages, _ = await directory.listen("", 1, lambda: directory.post(*new))
    assert [message["did"] for message in messages] == [new[0]]


async def test_stream_finds_operations_of_another_process(
    plc_pool: Pool, plc_url: str, clock: Clock
) -> None:
    did, first = genesis()

    def accept_elsewhere() -> None:
        with psycopg.connect(plc_url) as conn:
            accept(conn, did, first, NOW)

    app = create_app(plc_pool, now_ms=clock, poll_s=0.05)
    with serving_in_thread(app) as url:
        client = Client(url, clock)
        messages, _ = await client.listen("?cursor=0", 1, accept_elsewhere)
    assert messages[0]["did"] == did


async def test_stream_limit_of_one_client(directory: Client) -> None:
    url = f"{directory.url}/export/stream"
    async with aiohttp.ClientSession() as session, AsyncExitStack() as held:
        for _ in range(8):
            await held.enter_async_context(session.ws_connect(url))
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(url)
        assert caught.value.status == 429
        other = {"X-Forwarded-For": "203.0.113.9"}
        await held.enter_async_context(session.ws_connect(url, headers=other))


async def test_stream_refuses_invalid_cursors(directory: Client) -> None:
    directory.post(*genesis())
    newest = directory.get("/export?after=0").lines[-1]["seq"]
    assert (await directory.listen(f"?cursor={newest + 1}", 1))[1] == "FutureCursor"
    directory.clock.now_ms += 7 * DAY_MS
    assert (await directory.listen(f"?cursor={newest - 1}", 1))[1] is None
    directory.clock.now_ms += 1
    assert (await directory.listen(f"?cursor={newest - 1}", 1))[1] == "OutdatedCursor"
    for cursor in ("x", "-1", "1.5", "9" * 30):
        assert await refused_status(directory, f"?cursor={cursor}") == 400


async def test_stream_limit_of_all_clients(
    directory: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_STREAMS", 1)
    directory.post(*genesis())
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{directory.url}/export/stream"),
    ):
        assert await refused_status(directory, "") == 503
    # The slot is free again once the first reader has left.
    async with asyncio.timeout(5):
        while True:
            try:
                messages, _ = await directory.listen("?cursor=0", 1)
            except aiohttp.WSServerHandshakeError:
                await asyncio.sleep(0.02)
                continue
            assert len(messages) == 1
            return


class StuckSocket:
    """A reader that takes two messages, then nothing more, and never leaves."""

    def __init__(self, closes: bool) -> None:
        self.query_params = {"cursor": "0"}
        self.scope: dict[str, Any] = {}
        self.closes = closes
        self.sent = 0
        self.closed: tuple[int, str] | None = None

    async def accept(self) -> None:
        pass

    async def receive(self) -> dict[str, str]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send_text(self, text: str) -> None:
        if self.sent == 2:
            await asyncio.Event().wait()
        self.sent += 1

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)
        if not self.closes:
            await asyncio.Event().wait()


@pytest.mark.parametrize("closes", [True, False])
async def test_stream_closes_when_a_reader_is_too_slow(
    plc_pool: Pool, closes: bool
) -> None:
    for number in range(4):
        with plc_pool.connection() as conn:
            accept(conn, *genesis(number), NOW)
    socket: Any = StuckSocket(closes)
    async with asyncio.timeout(5):
        await ExportStream(plc_pool, Clock(), send_timeout_s=0.1).serve(socket)
    assert socket.sent == 2
    assert socket.closed == (1000, "ConsumerTooSlow")


async def test_directory_without_its_database_replies_503(
    plc_pool: Pool, directory: Client
) -> None:
    did, first = genesis()
    directory.post(did, first)
    plc_pool.timeout = 0.2
    held = [plc_pool.getconn() for _ in range(plc_pool.max_size)]
    try:
        for reply in (
            directory.get("/_health"),
            directory.get(f"/{did}"),
            directory.post(did, create_update(first, SERVER)),
        ):
            assert (reply.status, reply.json) == (503, {"message": BUSY})
        assert await refused_status(directory, "") == 503
    finally:
        for conn in held:
            plc_pool.putconn(conn)
    assert directory.get("/_health").status == 200
