"""A shard as its router sees it: a process and two channels."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import socket
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any, Final, TypeAlias

from crawler.live.pipeline import PipelineStats
from crawler.settings import MIB
from crawler.shards.shard_wire import (
    ControlReader,
    Kind,
    OpenStream,
    ShardStats,
    pack_header,
)

log = logging.getLogger(__name__)

StartShard: TypeAlias = Callable[[int, socket.socket, socket.socket], BaseProcess]
"""Starts a shard's process: (number, frames' channel, control channel)."""

_BATCH_BYTES: Final = 64 * 1024
_WAITING_BYTES: Final = MIB
_CHUNK: Final = 256 * 1024
_PATIENCE: Final = 40.0


class ShardLink:
    """Starts a shard and sends to it. Lives on the event loop.

    `hear` gets the shard's messages. `on_end` is called if the shard ends unasked.
    """

    def __init__(
        self,
        number: int,
        start: StartShard,
        hear: Callable[[ShardLink, Any], None],
        on_end: Callable[[], None],
    ) -> None:
        self.number = number
        self.latest = ShardStats(PipelineStats(), 0)
        self.ended = False
        self._start = start
        self._hear = hear
        self._on_end = on_end
        self._parts: list[bytes] = []
        self._size = 0
        self._finishing = False
        self._process: BaseProcess | None = None
        self._frames: asyncio.StreamWriter | None = None
        self._control: asyncio.StreamWriter | None = None
        self._listener: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id of the shard."""
        return None if self._process is None else self._process.pid

    @property
    def queued_bytes(self) -> int:
        """Return the bytes on their way to the shard, and those in its queue."""
        waiting = self.latest.queued_bytes + self._size
        if self._frames is not None:
            waiting += self._frames.transport.get_write_buffer_size()
        return waiting

    async def open(self) -> None:
        """Start the process."""
        frames, its_frames = socket.socketpair()
        control, its_control = socket.socketpair()
        try:
            self._process = self._start(self.number, its_frames, its_control)
        finally:
            # Or the end of the process would not be noticed.
            its_frames.close()
            its_control.close()
        _, self._frames = await asyncio.open_connection(sock=frames)
        self._frames.transport.set_write_buffer_limits(high=_WAITING_BYTES)
        reader, self._control = await asyncio.open_connection(sock=control)
        self._listener = asyncio.create_task(self._listen(reader))

    def add(self, kind: Kind, stream: int, position: int, body: bytes = b"") -> None:
        """Add a message. Never waits; see `drain`."""
        self._parts.append(pack_header(kind, stream, position, len(body)))
        if body:
            self._parts.append(body)
        self._size += len(body) + 1
        if self._size >= _BATCH_BYTES:
            self.flush()

    def add_stream(self, stream: int, opened: OpenStream) -> None:
        """Register a stream with the shard."""
        body = pickle.dumps(opened, pickle.HIGHEST_PROTOCOL)
        self.add(Kind.OPEN, stream, opened.last_seq, body)

    def flush(self) -> None:
        """Send the added messages in one piece."""
        frames = self._frames
        if self._parts and frames is not None and not frames.is_closing():
            frames.write(b"".join(self._parts))
        self._parts.clear()
        self._size = 0

    async def drain(self) -> None:
        """Wait while the shard is behind. Never returns if it ended: the streams are
        read again for its successor."""
        if not self.ended and self._frames is not None:
            with contextlib.suppress(OSError):
                await self._frames.drain()
                return
        await asyncio.get_running_loop().create_future()

    async def finish(self) -> None:
        """Have the shard finish its frames, and wait for its end."""
        self._finishing = True
        self.add(Kind.END, 0, 0)
        self.flush()
        if self._process is not None:
            await asyncio.to_thread(self._process.join, _PATIENCE)
        if self._listener is not None:
            # Its last messages.
            await asyncio.wait([self._listener], timeout=1.0)
        await self.close()

    async def close(self) -> None:
        """Kill the process, if it runs, and close its channels."""
        self._finishing = self.ended = True
        for writer in (self._frames, self._control):
            if writer is not None:
                writer.transport.abort()
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        process = self._process
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.join)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        messages = ControlReader()
        try:
            while chunk := await self._read(reader):
                for message in messages.feed(chunk):
                    if type(message) is ShardStats:
                        self.latest = message
                    else:
                        self._hear(self, message)
        except Exception:
            # A bug: a shard that is not heard must be replaced.
            log.exception("shard_not_understood", extra={"shard": self.number})
        self.ended = True
        if not self._finishing:
            log.error("shard_ended", extra={"shard": self.number, "pid": self.pid})
            self._on_end()

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(_CHUNK)
        except OSError:
            return b""
