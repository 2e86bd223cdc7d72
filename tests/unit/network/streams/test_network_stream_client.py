"""Frames, silence and the consumer's side of stream clients."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from loopback_peers import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Reader,
    Writer,
    frame,
    http,
    raw_peer,
    read_frame,
    reply,
    upgrade,
)
from stream_peers import DEV, QUICK, Watch, read, sending, url_of

from network.errors import UnreachableError
from network.http.client import Fetcher
from network.streams.stream_client import StreamClient
from network.streams.stream_events import Disconnected, DisconnectReason, StreamTimes
from protocol.limits import MAX_FRAME_BYTES


async def test_frames_arrive_in_order_and_reconnects_use_the_cursor() -> None:
    requests: list[bytes] = []
    seen = 0

    async def talk(reader: Reader, writer: Writer) -> None:
        requests.append(await upgrade(reader, writer))
        for number in range(3):
            writer.write(frame(BINARY, b"%d" % (seen + number)))
        writer.write(frame(CLOSE, b"\x03\xe9"))
        await read_frame(reader)

    watch = Watch()
    async with (
        raw_peer(talk) as peer,
        Fetcher(DEV) as fetcher,
        StreamClient(
            fetcher, url_of(peer), lambda: seen or None, on_event=watch, times=QUICK
        ) as stream,
    ):
        got = []
        async for data in stream:
            got.append(int(data))
            seen += 1
            if seen == 9:
                break
    assert got == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert watch.cursors == [None, 3, 6]
    assert watch.reasons == [DisconnectReason.CLOSED] * 2
    assert [line.split(b" ")[1] for line in requests] == [
        b"/xrpc/a.b.c",
        b"/xrpc/a.b.c?cursor=3",
        b"/xrpc/a.b.c?cursor=6",
    ]
    assert all(b"extensions" not in request.lower() for request in requests)


def test_fragments_are_joined() -> None:
    parts = (
        frame(BINARY, b"a" * 70_000, fin=False),
        frame(PING, b"hello"),
        frame(0, b"b" * 10, fin=False),
        frame(0, b"c"),
    )
    got = asyncio.run(read(sending(*parts, then=0.2), 1))
    assert got == [b"a" * 70_000 + b"b" * 10 + b"c"]


async def test_largest_frame_passes_and_one_byte_more_fails() -> None:
    codes: list[int] = []

    async def talk(reader: Reader, writer: Writer) -> None:
        await upgrade(reader, writer)
        writer.write(frame(BINARY, bytes(MAX_FRAME_BYTES)))
        writer.write(frame(BINARY, bytes(MAX_FRAME_BYTES + 1))[:100_000])
        opcode, payload = await read_frame(reader)
        assert opcode == CLOSE
        codes.append(int.from_bytes(payload[:2], "big"))

    watch = Watch()
    first, second = await read(talk, 2, watch)
    assert len(first) == len(second) == MAX_FRAME_BYTES == 5_000_000
    assert watch.reasons == [DisconnectReason.OVERSIZE]
    assert codes[0] == 1009


async def test_fragments_cannot_exceed_the_largest_frame() -> None:
    half = bytes(MAX_FRAME_BYTES // 2)
    parts = [frame(BINARY, half, fin=False), frame(0, half, fin=False), frame(0, b"x")]
    watch = Watch()
    with pytest.raises(UnreachableError):
        await read(sending(*parts, then=5), 1, watch, max_failures=1)
    assert watch.reasons == [DisconnectReason.OVERSIZE]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(TEXT, b"hello"), DisconnectReason.TEXT_FRAME),
        (frame(BINARY, b"deflated", rsv=4), DisconnectReason.LOST),
        (frame(3, b"unknown opcode"), DisconnectReason.LOST),
        (frame(0, b"nothing to continue"), DisconnectReason.LOST),
        (frame(PING, b"x" * 126), DisconnectReason.LOST),
        (b"\x82\xff" + b"\xff" * 8, DisconnectReason.OVERSIZE),
        (frame(BINARY, b"cut short")[:-1], DisconnectReason.LOST),
        (frame(CLOSE, b"\x03\xe8"), DisconnectReason.CLOSED),
        (b"", DisconnectReason.LOST),
    ],
)
async def test_broken_framing_reconnects(data: bytes, reason: DisconnectReason) -> None:
    watch = Watch()
    with pytest.raises(UnreachableError):
        await read(sending(data), 1, watch, max_failures=3)
    assert len(watch.cursors) == 3
    # Either of the two, depending on timing.
    assert set(watch.reasons) <= {reason, DisconnectReason.LOST}
    assert reason in watch.reasons


async def test_stream_that_breaks_after_each_frame_continues() -> None:
    watch = Watch()
    talk = sending(frame(BINARY, b"one"))
    assert await read(talk, 6, watch, max_failures=2) == [b"one"] * 6
    assert len(watch.cursors) == 6
    failures = [e.failures for e in watch.events if isinstance(e, Disconnected)]
    # The pauses still grow.
    assert failures == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("data", [b"", frame(CLOSE, b"\x03\xe8")], ids=["cut", "close"])
async def test_quiet_stream_that_is_cut_again_and_again_continues(data: bytes) -> None:
    connections = 0

    async def talk(reader: Reader, writer: Writer) -> None:
        nonlocal connections
        connections += 1
        await upgrade(reader, writer)
        await asyncio.sleep(0.15)
        writer.write(frame(BINARY, b"at last") if connections == 5 else data)

    watch = Watch()
    times = replace(QUICK, ping_after=10.0, contact_after=0.1)
    assert await read(talk, 1, watch, max_failures=2, times=times) == [b"at last"]
    failures = [e.failures for e in watch.events if isinstance(e, Disconnected)]
    # The pauses still grow.
    assert failures == [1, 2, 3, 4]


async def test_short_quiet_connections_raise_after_max_failures() -> None:
    watch = Watch()
    times = replace(QUICK, contact_after=5.0)
    with pytest.raises(UnreachableError, match="failed 3 times"):
        await read(sending(then=0.05), 1, watch, max_failures=3, times=times)
    assert len(watch.cursors) == 3


async def test_silent_and_dripping_peers_are_disconnected() -> None:
    async def drip(reader: Reader, writer: Writer) -> None:
        await upgrade(reader, writer)
        for byte in frame(BINARY, bytes(200)):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)

    # Silence is no contact, however long the connection lasted.
    times = replace(QUICK, contact_after=0.1)
    for talk in (sending(then=30), drip):
        watch = Watch()
        started = time.monotonic()
        with pytest.raises(UnreachableError):
            await read(talk, 1, watch, max_failures=1, times=times)
        assert 0.3 < time.monotonic() - started < 2.5
        assert watch.reasons == [DisconnectReason.SILENT]


def test_the_longest_silence_is_within_ninety_seconds() -> None:
    times = StreamTimes()
    assert times.ping_after + 2 * times.pong_within <= 90


def test_quiet_peer_that_answers_pings_stays_connected() -> None:
    async def talk(reader: Reader, writer: Writer) -> None:
        await upgrade(reader, writer)
        for _ in range(3):
            opcode, payload = await read_frame(reader)
            assert opcode == PING
            writer.write(frame(PONG, payload))
        writer.write(frame(BINARY, b"at last"))
        await asyncio.sleep(0.2)

    watch = Watch()
    assert asyncio.run(read(talk, 1, watch)) == [b"at last"]
    assert watch.reasons == []


def test_pings_are_answered() -> None:
    async def talk(reader: Reader, writer: Writer) -> None:
        await upgrade(reader, writer)
        writer.write(frame(PING, b"are you there"))
        assert await read_frame(reader) == (PONG, b"are you there")
        writer.write(frame(BINARY, b"good"))
        await asyncio.sleep(0.2)

    assert asyncio.run(read(talk, 1)) == [b"good"]


async def test_unread_frames_stay_in_the_socket() -> None:
    sent = 0
    chunk = frame(BINARY, bytes(50_000))

    async def talk(reader: Reader, writer: Writer) -> None:
        nonlocal sent
        await upgrade(reader, writer)
        for _ in range(4_000):
            writer.write(chunk)
            await writer.drain()
            sent += 1

    watch = Watch()
    async with (
        raw_peer(talk) as peer,
        Fetcher(DEV) as fetcher,
        StreamClient(fetcher, url_of(peer), on_event=watch, times=QUICK) as stream,
    ):
        await anext(stream)
        await asyncio.sleep(0.5)
        stuck = sent
        await asyncio.sleep(0.5)
        assert sent == stuck < 1_000  # of 200 MB
        for _ in range(500):
            await anext(stream)
        assert sent > stuck
        # Time without a read does not count as silence.
        assert watch.reasons == []


async def test_consumer_can_drop_a_connection() -> None:
    watch = Watch()
    talk = sending(frame(BINARY, b"bad"), frame(BINARY, b"never seen"), then=0.1)
    async with (
        raw_peer(talk) as peer,
        Fetcher(DEV) as fetcher,
        StreamClient(
            fetcher, url_of(peer), on_event=watch, times=QUICK, max_failures=3
        ) as stream,
    ):
        for _ in range(2):
            assert await anext(stream) == b"bad"
            await stream.drop("does not decode")
        assert await anext(stream) == b"bad"
        with pytest.raises(UnreachableError):
            await stream.drop("does not decode")
        assert peer.connections == 3
    assert watch.reasons == [DisconnectReason.DROPPED] * 3


@pytest.mark.parametrize(
    "talk",
    [sending(then=30), reply(http(b"", "500 Oops"))],
    ids=["while receiving", "while pausing"],
)
async def test_close_ends_the_iteration_at_once(talk: Callable[..., Any]) -> None:
    times = StreamTimes(first=60.0, longest=60.0)
    async with raw_peer(talk) as peer, Fetcher(DEV) as fetcher:
        stream = StreamClient(fetcher, url_of(peer), times=times, fraction=lambda: 1.0)

        async def consume() -> int:
            return len([data async for data in stream])

        task = asyncio.create_task(consume())
        await asyncio.sleep(0.2)
        await stream.aclose()
        assert await asyncio.wait_for(task, 1.0) == 0
