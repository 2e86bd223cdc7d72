"""Hostile peers of event streams, and a log of connects."""

from __future__ import annotations

import asyncio
from typing import Any

from loopback_peers import Conversation, Reader, Writer, raw_peer, upgrade

from network.http.client import Fetcher
from network.http.policy import Policy
from network.streams.stream_client import StreamClient
from network.streams.stream_events import (
    Connected,
    Disconnected,
    DisconnectReason,
    StreamEvent,
    StreamTimes,
)

DEV = Policy(allow_loopback=True, stream_dials_per_s=1_000.0)
QUICK = StreamTimes(
    first=0.01, longest=0.02, ping_after=0.2, pong_within=0.2, stable_after=10.0
)


def url_of(peer: Any) -> str:
    return f"ws://localhost:{peer.port}/xrpc/a.b.c"


class Watch:
    def __init__(self) -> None:
        self.events: list[StreamEvent] = []

    def __call__(self, event: StreamEvent) -> None:
        self.events.append(event)

    @property
    def reasons(self) -> list[DisconnectReason]:
        return [e.reason for e in self.events if isinstance(e, Disconnected)]

    @property
    def cursors(self) -> list[int | None]:
        return [e.cursor for e in self.events if isinstance(e, Connected)]


def sending(*frames: bytes, then: float = 0.0) -> Conversation:
    async def talk(reader: Reader, writer: Writer) -> None:
        await upgrade(reader, writer)
        for data in frames:
            writer.write(data)
            await writer.drain()
        await asyncio.sleep(then)

    return talk


async def read(
    talk: Conversation, count: int, watch: Watch | None = None, **options: Any
) -> list[bytes]:
    options.setdefault("times", QUICK)
    async with (
        raw_peer(talk) as peer,
        Fetcher(DEV) as fetcher,
        StreamClient(fetcher, url_of(peer), on_event=watch, **options) as stream,
    ):
        return [await anext(stream) for _ in range(count)]
