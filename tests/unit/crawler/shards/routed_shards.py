"""A router whose shards are threads."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from crawler.database import Database
from crawler.hosts.host_name import HostName
from crawler.live.stream_state import StreamState
from crawler.shards.router import Router
from crawler.shards.shard_wire import Kind, MessageReader, Wake, pack_control
from protocol.events.frames import encode_frame
from protocol.syntax.did import Did
from storage.hosts import host_rows
from storage.postgres.pool import Pool

SHARDS = 3


class FakeShard:
    """Reads both channels in threads; looks like a process."""

    def __init__(
        self, number: int, frames: socket.socket, control: socket.socket
    ) -> None:
        self.pid = number
        self.messages: list[tuple[int, int, int, bytes]] = []
        self.heard: list[Any] = []
        self.slow = threading.Event()
        self.slow.set()
        self._frames, self._control = frames.dup(), control.dup()
        self._threads = [threading.Thread(target=self._read, daemon=True)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        reader = MessageReader()
        while chunk := self._frames.recv(65_536):
            self.messages += reader.feed(chunk)
            if self.messages and self.messages[-1][0] == Kind.END:
                break
            self.slow.wait()
        self.die()

    def say(self, message: Any) -> None:
        self._control.sendall(pack_control(message))

    def die(self) -> None:
        for channel in (self._frames, self._control):
            with contextlib.suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.slow.set()
        self.die()
        for thread in self._threads:
            thread.join(20)
        self._frames.close()
        self._control.close()

    def kill(self) -> None:
        self.slow.set()

    def join(self, timeout: float | None = None) -> None:
        self._threads[0].join(timeout)

    def of(self, kind: Kind) -> list[tuple[int, bytes]]:
        """(position, body) of the messages of a kind."""
        return [(m[2], m[3]) for m in list(self.messages) if m[0] == kind]


class Routed:
    """A router with what it started and was told."""

    def __init__(self, pool: Pool) -> None:
        self.shards: list[FakeShard] = []
        self.woken: list[Wake] = []
        self.pool = pool

        def start(number: int, *channels: socket.socket) -> Any:
            self.shards.append(FakeShard(number, *channels))
            return self.shards[-1]

        self.router = Router(
            SHARDS, start, Database(pool, retry_cap=0.05), wake=self.woken.append
        )
        with pool.connection() as conn:
            self.host, _ = host_rows.put_host(
                conn, "a.example.com", "https://a.example.com", source="configured"
            )

    def stream(self, cursor: int | None = 0) -> StreamState:
        stream = StreamState(
            self.host,
            HostName("a.example.com"),
            last_seq=cursor or 0,
            resumed_at=cursor or 0,
            from_tip=cursor is None,
        )
        self.router.add_stream(stream)
        return stream

    def rows(self) -> dict[int, int]:
        with self.pool.connection() as conn:
            return dict(conn.execute("SELECT shard, seq FROM host_cursor").fetchall())


def frame(who: str, seq: Any, t: str = "#commit", **more: Any) -> bytes:
    account = "repo" if t == "#commit" else "did"
    return encode_frame(t, {account: who, "seq": seq} | more)


def did(number: int) -> Did:
    return Did(f"did:plc:{number:a>24}")


async def wait_until(check: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not check():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def routing(pool: Pool) -> AsyncIterator[Routed]:
    routed = Routed(pool)
    await routed.router.open()
    try:
        yield routed
    finally:
        for shard in routed.shards:
            shard.slow.set()
        await routed.router.finish()
        for shard in routed.shards:
            shard.close()
