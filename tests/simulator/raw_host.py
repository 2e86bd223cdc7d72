"""A server that can misuse HTTP and WebSocket in any way.

Frames may be cut, dripped, compressed without an offer, or endless. Each host counts
its requests and its faults: a fault that no client met proves nothing.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_METHODS: Final = "/xrpc/"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


@dataclass(frozen=True)
class Answer:
    """An HTTP response; the body may be an endless iterator."""

    status: int = 200
    body: bytes | AsyncIterator[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of_json(value: Any, status: int = 200, **headers: str) -> Answer:
        kind = {"Content-Type": "application/json"}
        return Answer(status, json.dumps(value).encode(), kind | headers)


class RawSocket:
    """The server's end of a WebSocket, without any checks."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader = reader
        self._writer = writer
        self.answers_pings = True

    async def send(self, payload: bytes, opcode: int = BINARY) -> None:
        await self.send_bytes(frame_head(len(payload), opcode) + payload)

    async def send_bytes(self, raw: bytes) -> None:
        self._writer.write(raw)
        await self._writer.drain()

    async def close(self) -> None:
        with contextlib.suppress(OSError):
            await self.send(b"\x03\xe8", CLOSE)

    async def listen(self) -> None:
        """Read until the peer closes; answer pings if `answers_pings`."""
        while True:
            first, second = await self._reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                size = int.from_bytes(await self._reader.readexactly(2), "big")
            mask = await self._reader.readexactly(4)
            payload = await self._reader.readexactly(size)
            if first & 0x0F == CLOSE:
                return
            if first & 0x0F == PING and self.answers_pings:
                plain = bytes(b ^ mask[n % 4] for n, b in enumerate(payload))
                await self.send(plain, PONG)


def frame_head(size: int, opcode: int = BINARY, *, flags: int = 0x80) -> bytes:
    """Return the head of a frame of `size` bytes; `flags` 0xC0: compressed."""
    first = bytes([flags | opcode])
    if size < 126:
        return first + bytes([size])
    if size < 65_536:
        return first + b"\x7e" + size.to_bytes(2, "big")
    return first + b"\x7f" + size.to_bytes(8, "big")


class RawHost:
    """Answers as a PDS without accounts; subclasses misbehave."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.did: Counter[str] = Counter()
        self.connections = 0
        self.url = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def stream(self, socket: RawSocket, cursor: int | None) -> None:
        """Send frames; the connection ends when this returns."""
        await asyncio.Event().wait()

    async def upgrade(self, cursor: int | None) -> Answer | None:
        """Return a response in place of a stream, or None."""
        return None

    async def answer(self, method: str, params: Mapping[str, str]) -> Answer:
        if method == "com.atproto.server.describeServer":
            return Answer.of_json({"did": "did:web:pds", "availableUserDomains": []})
        if method == "com.atproto.sync.listRepos":
            return Answer.of_json({"repos": []})
        return Answer.of_json({"error": "RepoNotFound", "message": "no"}, 400)

    async def open(self, address: str, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._take, address, port)
        bound = self._server.sockets[0].getsockname()
        self.url = f"http://{address}:{bound[1]}"

    async def shut(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._serve(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self.did["was cut off"] += 1
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; return True if the connection stays open."""
        head = await reader.readuntil(b"\r\n\r\n")
        line, _, rest = head.decode("latin-1").partition("\r\n")
        _, target, _ = line.split(" ")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (row.partition(":") for row in rest.split("\r\n"))
        }
        parts = urlsplit(target)
        params = {name: values[0] for name, values in parse_qs(parts.query).items()}
        method = parts.path.removeprefix(_METHODS)
        if "upgrade" in headers:
            self.asked["stream"] += 1
            cursor = int(params["cursor"]) if "cursor" in params else None
            instead = await self.upgrade(cursor)
            if instead is None:
                await self._shake_hands(headers, writer)
                await self._stream(RawSocket(reader, writer), cursor)
                return False
            await self._reply(writer, instead)
            return True
        self.asked[method] += 1
        reply = await self.answer(method, params | {"": headers.get("host", "")})
        await self._reply(writer, reply)
        return isinstance(reply.body, bytes)

    async def _stream(self, socket: RawSocket, cursor: int | None) -> None:
        sending = asyncio.ensure_future(self.stream(socket, cursor))
        listening = asyncio.ensure_future(socket.listen())
        try:
            await asyncio.wait(
                (sending, listening), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in (sending, listening):
                task.cancel()
            await asyncio.gather(sending, listening, return_exceptions=True)

    async def _shake_hands(
        self, headers: Mapping[str, str], writer: asyncio.StreamWriter
    ) -> None:
        key = headers["sec-websocket-key"].encode() + _GUID
        accept = base64.b64encode(hashlib.sha1(key).digest()).decode()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept.encode() + b"\r\n"
            b"\r\n"
        )
        await writer.drain()

    async def _reply(self, writer: asyncio.StreamWriter, reply: Answer) -> None:
        whole = isinstance(reply.body, bytes)
        length = (
            {"Content-Length": str(len(reply.body))}  # type: ignore[arg-type]
            if whole
            else {"Transfer-Encoding": "chunked"}
        )
        rows = [f"{name}: {value}" for name, value in (length | reply.headers).items()]
        head = f"HTTP/1.1 {reply.status} So\r\n" + "\r\n".join(rows) + "\r\n\r\n"
        writer.write(head.encode("latin-1"))
        if isinstance(reply.body, bytes):
            writer.write(reply.body)
        else:
            async for piece in reply.body:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        await writer.drain()


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@contextlib.contextmanager
def open_loop() -> Iterator[Loop]:
    loop = Loop()
    try:
        yield loop
    finally:
        loop.close()
