"""Streams of matches: a WebSocket, and server-sent events.

Both begin behind a cursor and continue live. A reader that does not keep up gets an
error and is closed; it resumes at its cursor.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import anyio
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from appview.app import AppView
from appview.views.saved_search import open_stream_key
from mirror.match_events import MatchEvents, ShownMatch
from network.errors import XrpcError
from network.streams.event_feed import EventFeed, Ring, TooSlowError
from network.streams.stream_server import (
    CONSUMER_TOO_SLOW,
    FUTURE_CURSOR,
    OUTDATED_CURSOR,
    POLICY_VIOLATION,
    TRY_AGAIN_LATER,
)
from network.xrpc.error_reply import error_response
from network.xrpc.server import XrpcServer
from protocol.events.frames import INFO, encode_error_frame, encode_frame
from protocol.limits import MAX_INT
from search.matches.match_log import Match
from storage.private.saved_searches import find_searches_by_id

SUBSCRIBE_MATCHES: Final = "bigworld.search.subscribeMatches"
PATH: Final = "/search/matches"
JSON_PROTOCOL: Final = "xrpc.v1.json"
MAX_KEYS: Final = 100
MAX_SUBSCRIBERS: Final = 1_000
_POLL_S: Final = 0.1
_PAGE: Final = 100
_RING: Final = 20_000
_RING_BYTES: Final = 8_000_000
_MATCH: Final = "#match"
_OUTDATED: Final = "cursor is older than what is kept"


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Seconds that a message may stay unread, and between signs of life."""

    send_s: float = 20.0
    quiet_s: float = 15.0


class MatchStreams:
    """Both endpoints of matches. Each object has its own reader of the log and its own
    limit of streams."""

    def __init__(self, app: AppView, limits: StreamLimits | None = None) -> None:
        self._app = app
        self._limits = limits or StreamLimits()
        self._source = MatchEvents(app)
        self._feed: EventFeed[Match] = EventFeed(
            self._source,
            poll=_POLL_S,
            page=_PAGE,
            ring_events=_RING,
            ring_bytes=_RING_BYTES,
        )

    @property
    def subscribers(self) -> int:
        """Return the number of open streams."""
        return self._feed.followers

    async def serve_socket(
        self, websocket: WebSocket, params: Mapping[str, Any]
    ) -> None:
        """Serve bigworld.search.subscribeMatches."""
        try:
            searches = await self._open_keys(params["key"])
        except XrpcError as error:
            response = error_response(error, SUBSCRIBE_MATCHES)
            await websocket.send_denial_response(response)
            return
        in_json = JSON_PROTOCOL in websocket.scope.get("subprotocols", ())
        if self.subscribers >= MAX_SUBSCRIBERS:
            await websocket.accept()
            await websocket.close(TRY_AGAIN_LATER)
            return
        try:
            # Before accepting, so that no match after the connect is missed.
            ring = await self._feed.join()
            tip = ring.last
            await websocket.accept(JSON_PROTOCOL if in_json else None)
            out = _Socket(websocket, in_json, self._limits.send_s)
            await self._serve_socket(out, searches, params.get("cursor"), ring, tip)
        except (WebSocketDisconnect, OSError):
            pass  # the client will reconnect with its cursor
        finally:
            self._feed.leave()

    async def _serve_socket(
        self,
        out: _Socket,
        searches: Collection[int],
        cursor: int | None,
        ring: Ring[Match],
        tip: int,
    ) -> None:
        async def send() -> None:
            position = tip if cursor is None else await self._start(cursor, ring)
            if cursor is not None and position > cursor > 0:
                await out.info(OUTDATED_CURSOR, _OUTDATED)
            async for matches in self._follow(ring, searches, position):
                for match in matches:
                    await out.send(match)

        sender = asyncio.create_task(send())
        listener = asyncio.create_task(out.wait_for_end())
        try:
            await asyncio.wait((sender, listener), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sender, listener):
                task.cancel()
            results = await asyncio.gather(sender, listener, return_exceptions=True)
        if isinstance(results[0], TooSlowError):
            await out.close(CONSUMER_TOO_SLOW, "matches were not read in time")
        elif isinstance(results[0], FutureCursorError):
            await out.close(FUTURE_CURSOR, "cursor is ahead of the stream")
        elif isinstance(results[0], Exception):
            raise results[0]

    async def serve_events(self, request: Request) -> Response:
        """Serve server-sent events. `Last-Event-ID` is the cursor of a reconnect."""
        try:
            query = request.query_params
            searches = await self._open_keys(query.getlist("key"))
            last = request.headers.get("last-event-id") or query.get("cursor")
            cursor = _read_cursor(last)
            if self.subscribers >= MAX_SUBSCRIBERS:
                raise XrpcError("TooManySubscribers", "try again later", 503)
            ring = await self._feed.join()
            try:
                position = ring.last
                if cursor is not None:
                    position = await self._start(cursor, ring)
            except BaseException:
                self._feed.leave()
                raise
        except FutureCursorError:
            error = XrpcError(FUTURE_CURSOR, "cursor is ahead of the stream", 400)
            return error_response(error, PATH)
        except XrpcError as error:
            return error_response(error, PATH)
        outdated = cursor is not None and position > cursor > 0
        return _EventStream(self, ring, searches, position, outdated)

    async def events(
        self,
        ring: Ring[Match],
        searches: Collection[int],
        position: int,
        outdated: bool,
    ) -> AsyncIterator[bytes]:
        """Return server-sent events, with a comment whenever nothing was found."""
        yield b": matches\n\n"
        if outdated:
            yield _event(None, "info", {"name": OUTDATED_CURSOR, "message": _OUTDATED})
        following = self._follow(ring, searches, position)
        coming = asyncio.ensure_future(anext(following))
        try:
            while True:
                done, _ = await asyncio.wait({coming}, timeout=self._limits.quiet_s)
                if not done:
                    yield b": \n\n"
                    continue
                for match in coming.result():
                    yield _event(match.match.number, "match", match.json())
                coming = asyncio.ensure_future(anext(following))
        except TooSlowError:
            yield _event(None, "error", {"error": CONSUMER_TOO_SLOW})
        finally:
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await coming
            await following.aclose()

    @property
    def send_s(self) -> float:
        """Return the seconds that a message may stay unread."""
        return self._limits.send_s

    def leave(self) -> None:
        """Note the end of a stream of server-sent events."""
        self._feed.leave()

    async def _open_keys(self, keys: Sequence[str]) -> frozenset[int]:
        if not 0 < len(keys) <= MAX_KEYS:
            raise XrpcError("InvalidRequest", f"key: give 1 to {MAX_KEYS}", 400)
        searches = {open_stream_key(self._app.cursor_secret, key) for key in keys}

        def find() -> Collection[int]:
            with self._app.private.read() as conn:
                return find_searches_by_id(conn, searches)

        found = await anyio.to_thread.run_sync(find)
        if len(found) < len(searches):
            raise XrpcError("InvalidKey", "the saved search was removed", 400)
        return frozenset(searches)

    async def _start(self, cursor: int, ring: Ring[Match]) -> int:
        """Return the position to begin behind. Raises FutureCursorError."""
        if cursor > max(ring.last, await self._source.tail()):
            raise FutureCursorError
        return max(cursor, await self._source.oldest() - 1, 0)

    async def _follow(
        self, ring: Ring[Match], searches: Collection[int], position: int
    ) -> AsyncGenerator[list[ShownMatch]]:
        """Return shown matches of these searches behind `position`, without end.

        Raises TooSlowError.
        """
        while position < ring.floor:
            # Only these searches are read, not the whole log.
            tail = await self._source.tail()
            found = await self._source.matches_of(searches, position, tail, _PAGE)
            if await self._source.oldest() > position + 1:
                raise TooSlowError
            async for shown in self._load(found):
                yield shown
            position = found[-1].number if len(found) == _PAGE else tail
        live = False
        while True:
            events, live = await self._feed.next_events(ring, position, live=live)
            mine = [match for _, match in events if match.search in searches]
            async for shown in self._load(mine):
                yield shown
            position = events[-1][0]

    async def _load(self, matches: Sequence[Match]) -> AsyncGenerator[list[ShownMatch]]:
        while matches:
            shown, count = await self._source.load(matches)
            if shown:
                yield shown
            matches = matches[count:]


class FutureCursorError(Exception):
    """A cursor above the newest match."""


class _Socket:
    """A WebSocket that gets frames, or texts of the JSON protocol."""

    def __init__(self, websocket: WebSocket, in_json: bool, send_s: float) -> None:
        self._websocket = websocket
        self._in_json = in_json
        self._send_s = send_s

    async def send(self, match: ShownMatch) -> None:
        if self._in_json:
            await self._send_json(_MATCH, match.json())
        else:
            await self._send(encode_frame(_MATCH, match.fields()))

    async def info(self, name: str, message: str) -> None:
        fields: dict[str, Any] = {"name": name, "message": message}
        if self._in_json:
            await self._send_json(INFO, fields)
        else:
            await self._send(encode_frame(INFO, fields))

    async def close(self, error: str, message: str) -> None:
        """Send the reason, if the socket accepts it, and close."""
        with contextlib.suppress(
            TooSlowError, TimeoutError, WebSocketDisconnect, OSError, RuntimeError
        ):
            async with asyncio.timeout(1.0):
                if self._in_json:
                    text = orjson.dumps({"error": error, "message": message})
                    await self._websocket.send_text(text.decode())
                else:
                    frame = encode_error_frame(error, message)
                    await self._websocket.send_bytes(frame)
                await self._websocket.close(POLICY_VIOLATION)

    async def wait_for_end(self) -> None:
        """Wait until the subscriber disconnects; its messages are ignored."""
        while (await self._websocket.receive())["type"] != "websocket.disconnect":
            pass

    async def _send_json(self, t: str, fields: Mapping[str, Any]) -> None:
        text = orjson.dumps({"$type": SUBSCRIBE_MATCHES + t, **fields}).decode()
        await self._in_time(self._websocket.send_text(text))

    async def _send(self, frame: bytes) -> None:
        await self._in_time(self._websocket.send_bytes(frame))

    async def _in_time(self, sending: Any) -> None:
        try:
            async with asyncio.timeout(self._send_s):
                await sending
        except TimeoutError:
            raise TooSlowError from None


class _EventStream(Response):
    """A response of server-sent events, which ends if they are not read in time."""

    media_type = "text/event-stream"

    def __init__(
        self,
        streams: MatchStreams,
        ring: Ring[Match],
        searches: Collection[int],
        position: int,
        outdated: bool,
    ) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(headers=headers, media_type=self.media_type)
        del self.headers["content-length"]
        self._streams = streams
        self._parts = streams.events(ring, searches, position, outdated)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sender = asyncio.create_task(self._send(send))
        listener = asyncio.create_task(_wait_for_disconnect(receive))
        try:
            await asyncio.wait((sender, listener), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sender, listener):
                task.cancel()
            await asyncio.gather(sender, listener, return_exceptions=True)
            await self._parts.aclose()  # type: ignore[attr-defined]
            self._streams.leave()

    async def _send(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        async for part in self._parts:
            async with asyncio.timeout(self._streams.send_s):
                await send(
                    {"type": "http.response.body", "body": part, "more_body": True}
                )
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(number: int | None, name: str, data: Mapping[str, Any]) -> bytes:
    head = b"" if number is None else b"id: %d\n" % number
    return b"%bevent: %b\ndata: %b\n\n" % (head, name.encode(), orjson.dumps(data))


def _read_cursor(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise XrpcError("InvalidRequest", "cursor is not a number", 400)
    return min(int(text), MAX_INT)


def add_match_subscription(server: XrpcServer, app: AppView) -> None:
    """Serve bigworld.search.subscribeMatches."""
    streams = MatchStreams(app)
    server.route_subscription(SUBSCRIBE_MATCHES, streams.serve_socket)


def match_route(app: AppView) -> Route:
    """Return the route of the server-sent events."""
    return Route(PATH, MatchStreams(app).serve_events)
