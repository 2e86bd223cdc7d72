from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from loopback_peers import frame as ws_frame
from loopback_peers import read_frame, until

from network.errors import UnreachableError
from network.http.client import Fetcher
from network.http.policy import Policy
from network.server.listener import serving
from network.streams.stream_client import StreamClient, StreamRefusedError
from network.streams.stream_events import (
    Connected,
    Disconnected,
    StreamEvent,
    StreamTimes,
)
from network.streams.stream_server import StreamServer
from network.xrpc.server import XrpcServer
from protocol.events.frames import decode_frame, encode_frame
from protocol.lexicon import Catalog

SUBSCRIBE = "com.atproto.sync.subscribeRepos"
CATALOG = Catalog.load()
DEV = Policy(allow_loopback=True, stream_dials_per_s=1_000.0)


class Events:
    """An event source in memory; `kept` is the lowest stored number."""

    def __init__(self, count: int = 0, size: int = 0) -> None:
        self.frames: dict[int, bytes] = {}
        self.last = 0
        self.kept = 1
        self.size = size
        self.server: StreamServer | None = None
        self.reads = 0
        for _ in range(count):
            self.add()

    def add(self, gap: int = 1) -> None:
        self.last += gap
        body = {"seq": self.last, "pad": bytes(self.size)}
        self.frames[self.last] = encode_frame("#commit", body)
        if self.server is not None:
            self.server.wake()

    async def tail(self) -> int:
        return self.last

    async def oldest(self) -> int:
        return min((seq for seq in self.frames if seq >= self.kept), default=0)

    async def events_after(self, seq: int, limit: int) -> Sequence[tuple[int, bytes]]:
        self.reads += 1
        await asyncio.sleep(random.random() * 0.002)
        start = max(seq, self.kept - 1)
        found = sorted(n for n in self.frames if n > start)[:limit]
        return [(n, self.frames[n]) for n in found]


class SlowToTell(Events):
    """A source that returns its last number after a pause."""

    async def tail(self) -> int:
        await asyncio.sleep(0.2)
        return self.last


@asynccontextmanager
async def running(events: Events, **options: Any) -> AsyncIterator[str]:
    options.setdefault("poll", 60.0)
    events.server = StreamServer(events, **options)
    server = XrpcServer(CATALOG)
    server.route_subscription(SUBSCRIBE, events.server)
    async with serving(server.app()) as url:
        yield f"ws{url.removeprefix('http')}/xrpc/{SUBSCRIBE}"


Read = Callable[[int], Coroutine[Any, Any, list[dict[str, Any]]]]


@asynccontextmanager
async def reading(
    url: str, cursor: int | None, on_event: Callable[[StreamEvent], None] | None = None
) -> AsyncIterator[Read]:
    times = StreamTimes(first=0.01, longest=0.01)
    async with (
        Fetcher(DEV) as fetcher,
        StreamClient(
            fetcher, url, cursor, on_event=on_event, times=times, max_failures=1
        ) as stream,
    ):

        async def read(count: int) -> list[dict[str, Any]]:
            found = []
            for _ in range(count):
                raw = await asyncio.wait_for(anext(stream), 5.0)
                frame = decode_frame(raw)
                found.append({"t": frame.t, "op": frame.op, **frame.body})
            return found

        yield read


def seqs(found: list[dict[str, Any]]) -> list[int]:
    return [item["seq"] for item in found]


@pytest.mark.parametrize("cursor", [0, 1, 250, 499, 500])
async def test_replay_from_a_cursor_then_live(cursor: int) -> None:
    events = Events(500)
    async with running(events) as url, reading(url, cursor) as read:
        assert seqs(await read(500 - cursor)) == list(range(cursor + 1, 501))
        for _ in range(20):
            events.add()
            assert seqs(await read(1)) == [events.last]


async def test_stream_without_a_cursor_starts_at_the_tip() -> None:
    events = Events(100)
    async with running(events) as url, reading(url, None) as read:
        reader = asyncio.create_task(read(2))
        await asyncio.sleep(0.2)
        events.add()
        events.add(gap=7)
        assert seqs(await reader) == [101, 108]


async def test_event_right_after_the_connect_is_not_missed() -> None:
    events = SlowToTell(100)
    connected: list[int] = []

    def note(event: StreamEvent) -> None:
        if isinstance(event, Connected):
            events.add()
            connected.append(events.last)

    async with running(events) as url, reading(url, None, note) as read:
        assert seqs(await read(1)) == connected == [101]


async def test_many_readers_see_every_event_once() -> None:
    events = Events(300)
    async with running(events, ring_frames=50_000) as url:

        async def follow(cursor: int) -> list[int]:
            async with reading(url, cursor) as read:
                return seqs(await read(1_300 - cursor))

        readers = [asyncio.create_task(follow(n * 29)) for n in range(10)]
        for _ in range(1_000):
            events.add()
            if events.last % 20 == 0:
                await asyncio.sleep(0.001)
        for number, reader in enumerate(readers):
            assert await reader == list(range(number * 29 + 1, 1_301))


async def test_source_is_read_once_for_all_live_readers() -> None:
    events = Events(10)
    async with running(events) as url:

        async def follow() -> list[int]:
            async with reading(url, 10) as read:
                return seqs(await read(50))

        readers = [asyncio.create_task(follow()) for _ in range(10)]
        server = events.server
        assert server is not None
        await until(lambda: server.subscribers == 10)
        events.reads = 0
        for _ in range(50):
            events.add()
            await asyncio.sleep(0.005)
        await asyncio.gather(*readers)
        assert events.reads <= 2 * 50 + 5


async def test_new_events_are_seen_by_wake_and_by_poll() -> None:
    async def delay(poll: float, wake: bool) -> float:
        events = Events(1)
        async with running(events, poll=poll) as url, reading(url, 1) as read:
            reader = asyncio.create_task(read(1))
            await asyncio.sleep(0.2)
            if not wake:
                events.server = None
            started = time.monotonic()
            events.add()
            await reader
            return time.monotonic() - started

    assert await delay(poll=60.0, wake=True) < 0.3
    assert await delay(poll=0.1, wake=False) < 0.6


async def test_future_cursor_gets_an_error_frame() -> None:
    events = Events(5)
    seen: list[StreamEvent] = []
    async with running(events) as url, reading(url, 6, seen.append) as read:
        # The client reconnects, with the same result.
        for found in [*await read(1), *await read(1)]:
            assert (found["op"], found["error"]) == (-1, "FutureCursor")
        kinds = [type(event) for event in seen]
        assert kinds == [Connected, Disconnected, Connected]
        events.add()
    async with running(events) as url, reading(url, 6) as read:
        events.add()
        assert seqs(await read(1)) == [7]


async def test_outdated_cursor_gets_an_info_frame() -> None:
    events = Events(100)
    events.kept = 61
    for cursor in (1, 30, 59):
        async with running(events) as url, reading(url, cursor) as read:
            (info, *rest) = await read(41)
            assert (info["t"], info["name"]) == ("#info", "OutdatedCursor")
            assert seqs(rest) == list(range(61, 101))
    # The cursor is at the oldest event, or no event is missing.
    for cursor in (0, 60):
        async with running(events) as url, reading(url, cursor) as read:
            assert seqs(await read(40)) == list(range(61, 101))


@pytest.mark.parametrize("cursor", ["x", "1.5", "9" * 40])
async def test_bad_cursor_is_refused_before_the_upgrade(cursor: str) -> None:
    async with running(Events(1)) as url, Fetcher(DEV) as fetcher:
        stream = StreamClient(fetcher, f"{url}?cursor={cursor}")
        with pytest.raises(StreamRefusedError) as caught:
            await anext(stream)
        assert caught.value.status == 400


async def test_http_request_to_a_subscription_is_426() -> None:
    async with running(Events(1)) as url, Fetcher(DEV) as fetcher:
        fetched = await fetcher.get(url.replace("ws://", "http://"))
        assert (fetched.status, fetched.json()["error"]) == (426, "InvalidRequest")


async def stalled(url: str, cursor: int) -> tuple[Any, Any]:
    """Connect a client that reads nothing."""
    host, _, path = url.removeprefix("ws://").partition("/")
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", int(host.split(":")[1]), limit=1_000
    )
    writer.write(
        f"GET /{path}?cursor={cursor} HTTP/1.1\r\nHost: {host}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    await writer.drain()
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def free(server: StreamServer, left: int) -> float:
    started = time.monotonic()
    await until(lambda: server.subscribers <= left)
    return time.monotonic() - started


async def test_stalled_subscriber_does_not_block_others() -> None:
    events = Events(2_000, size=20_000)
    async with running(events, send_timeout=0.5) as url:
        _, writer = await stalled(url, 0)
        async with reading(url, 2_000) as read:
            worst = 0.0
            for _ in range(50):
                started = time.monotonic()
                events.add()
                assert seqs(await read(1)) == [events.last]
                worst = max(worst, time.monotonic() - started)
            assert worst < 0.5
            assert events.server is not None
            assert await free(events.server, 1) < 3.0
        writer.close()


async def test_slow_live_subscriber_gets_an_error_frame() -> None:
    events = Events(1, size=100_000)
    async with running(events, ring_frames=20, send_timeout=5.0) as url:
        reader, writer = await stalled(url, 1)
        server = events.server
        assert server is not None
        await until(lambda: server.subscribers == 1)
        await asyncio.sleep(0.1)
        for _ in range(300):
            events.add()
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.3)
        got, error = [], ""
        while not error:
            opcode, payload = await asyncio.wait_for(read_frame(reader), 5.0)
            if opcode == 9:
                continue
            frame = decode_frame(payload)
            error = frame.body.get("error", "")
            if not error:
                got.append(frame.body["seq"])
        assert error == "ConsumerTooSlow"
        assert got == list(range(2, 2 + len(got)))
        assert len(got) < 300
        opcode, payload = await asyncio.wait_for(read_frame(reader), 5.0)
        assert (opcode, int.from_bytes(payload[:2], "big")) == (8, 1008)
        writer.write(ws_frame(8, payload[:2]))
        await free(server, 0)
        writer.close()


async def test_subscribers_are_limited() -> None:
    events = Events(3)
    async with running(events, max_subscribers=1) as url, reading(url, 0) as read:
        await read(3)
        async with reading(url, 0) as late:
            with pytest.raises(UnreachableError):
                await late(1)


async def test_disconnected_subscribers_are_removed() -> None:
    events = Events(50)
    async with running(events) as url:
        assert events.server is not None
        for _ in range(5):
            async with reading(url, 0) as read:
                await read(50)
            await free(events.server, 0)
        assert events.server._feed._feeder is None
        assert events.server._feed._ring is None


async def test_failing_source_is_read_again(caplog: pytest.LogCaptureFixture) -> None:
    class Flaky(Events):
        broken = 0

        async def events_after(
            self, seq: int, limit: int
        ) -> Sequence[tuple[int, bytes]]:
            if self.broken > 0:
                self.broken -= 1
                raise ConnectionError("the database is away")
            return await super().events_after(seq, limit)

    events = Flaky(1)
    async with running(events, poll=0.05) as url, reading(url, 1) as read:
        reader = asyncio.create_task(read(1))
        await asyncio.sleep(0.2)
        events.broken = 3
        events.add()
        assert seqs(await reader) == [2]
    assert "event source failed" in caplog.text
