"""Images of the pages, proxied so that no foreign host sees the readers.

A blob is fetched from its account's host, verified by its CID, and cached on disk. Only
known image formats are served.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final
from urllib.parse import quote

import anyio
import anyio.to_thread
from cachetools import TTLCache
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from appview.views.blob_url import GET_BLOB
from network.errors import NetworkError
from network.http.client import Fetcher
from network.http.policy import HostLimits
from network.http.single_flight import SingleFlight
from network.server.admission import working
from protocol.data.cid import BLOB_PREFIX, cid_from_text, raw_cid_for
from protocol.errors import InvalidEncodingError
from protocol.syntax import is_did
from service.web.image_cache import ImageCache
from storage.postgres.pool import Pool
from storage.states import STATUS_ACTIVE

IMAGE_PATTERN: Final = "/image/{did}/{cid}"
"""URL of images in the pages. There is no preset: images are not scaled."""
IMAGE_LIMITS: Final = HostLimits(rate=20.0, burst=60, concurrency=8, max_wait=10.0)
"""Limits for a page with 25 accounts of one host."""
MAX_IMAGE_BYTES: Final = 2_000_000
"""Largest image that the lexicons allow."""
_FETCH_SECONDS: Final = 15.0
_FETCHES: Final = 16
_FETCHES_A_HOST: Final = 4
_MAX_WAITING: Final = 1_024
_MAX_WAITING_A_HOST: Final = 128
_FAILED_SECONDS: Final = 60.0
_MAX_FAILED: Final = 10_000
_CHUNK: Final = 65_536
_HEAD: Final = 16
_BUSY: Final = 503
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Content-Disposition": "inline",
    # Short, so that takedowns reach the caches of readers.
    "Cache-Control": "public, max-age=3600",
}


def image_type(head: bytes) -> str | None:
    """Return the media type of an image by its first bytes, or None."""
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "image/gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return "image/avif"
    return None


class Images:
    """The route of images, from `cache` or from the account's host."""

    def __init__(
        self,
        pool: Pool,
        fetcher: Fetcher,
        cache: ImageCache,
        threads: anyio.CapacityLimiter,
        is_taken_down: Callable[[str, bytes], bool] = lambda did, cid: False,
    ) -> None:
        self._pool = pool
        self._threads = threads
        self._is_taken_down = is_taken_down
        self._fetcher = fetcher
        self._cache = cache
        self._flight: SingleFlight[str, bool] = SingleFlight()
        self._places = asyncio.Semaphore(_FETCHES)
        self._waiting: Counter[str] = Counter()
        self._host_places: dict[str, asyncio.Semaphore] = {}
        self._failed: TTLCache[str, bool] = TTLCache(_MAX_FAILED, _FAILED_SECONDS)

    def route(self) -> Route:
        """Return the route that IMAGE_PATTERN names."""
        return Route(IMAGE_PATTERN, self.serve)

    async def serve(self, request: Request) -> Response:
        """Serve an image, or 404 for anything else."""
        did, text = request.path_params["did"], request.path_params["cid"]
        cid = _read_cid(text)
        if cid is None or not is_did(did):
            return _refuse(404)
        async with working(request.scope):
            host = await anyio.to_thread.run_sync(
                self._find_host, did, cid, limiter=self._threads
            )
        if host is None:
            return _refuse(404)
        # By account: an image of a taken-down account must not be served for others.
        name = hashlib.sha256(f"{did} {text}".encode()).hexdigest()
        file = await anyio.to_thread.run_sync(self._cache.open, name)
        if file is None:
            if name in self._failed:
                return _refuse(404)
            if (
                self._waiting.total() >= _MAX_WAITING
                or self._waiting[host] >= _MAX_WAITING_A_HOST
            ):
                return _refuse(_BUSY)
            url = f"{host}/xrpc/{GET_BLOB}?did={quote(did, safe=':')}&cid={text}"
            file = await self._open_fetched(name, host, url, cid)
        if file is None:
            return _refuse(404)
        return await anyio.to_thread.run_sync(_answer, file, text, request)

    async def _open_fetched(
        self, name: str, host: str, url: str, cid: bytes
    ) -> BinaryIO | None:
        self._waiting[host] += 1
        try:
            if await self._flight.run(name, lambda: self._fetch(name, host, url, cid)):
                return await anyio.to_thread.run_sync(self._cache.open, name)
        finally:
            self._waiting[host] -= 1
            if not self._waiting[host]:
                del self._waiting[host]
                self._host_places.pop(host, None)
        return None

    def _find_host(self, did: str, cid: bytes) -> str | None:
        if self._is_taken_down(did, cid):
            return None
        with self._pool.connection() as conn:
            row = conn.execute(
                """
                SELECT h.url FROM actor a
                JOIN repo r ON r.actor = a.id JOIN host h ON h.id = r.host
                WHERE a.did = %s AND a.takedown IS NULL AND a.upstream_status = %s
                """,
                (did, STATUS_ACTIVE),
            ).fetchone()
        return row[0] if row else None

    async def _fetch(self, name: str, host: str, url: str, cid: bytes) -> bool:
        body = b""
        # A slow host must not use up the slots of all others.
        own = self._host_places.setdefault(host, asyncio.Semaphore(_FETCHES_A_HOST))
        try:
            async with own, self._places:
                answer = await self._fetcher.get(
                    url, max_bytes=MAX_IMAGE_BYTES, timeout=_FETCH_SECONDS
                )
            if answer.status == 200:
                body = answer.body
        except NetworkError:
            pass
        if image_type(body[:_HEAD]) is None or raw_cid_for(body) != cid:
            self._failed[name] = True
            return False
        await anyio.to_thread.run_sync(self._cache.put, name, body)
        return True


def _read_cid(text: str) -> bytes | None:
    try:
        cid = cid_from_text(text)
    except InvalidEncodingError:
        return None
    return cid if cid.startswith(BLOB_PREFIX) else None


def _refuse(status: int) -> Response:
    headers = _HEADERS | ({"Retry-After": "5"} if status == _BUSY else {})
    return PlainTextResponse("no image", status, headers=headers)


def _answer(file: BinaryIO, cid: str, request: Request) -> Response:
    headers = _HEADERS | {"ETag": f'"{cid}"'}
    head = file.read(_HEAD)
    media = image_type(head)
    if media is None or request.headers.get("if-none-match") == headers["ETag"]:
        file.close()
        return Response(status_code=304, headers=headers) if media else _refuse(404)
    size = file.seek(0, 2)
    file.seek(0)
    return StreamingResponse(
        _chunks(file), media_type=media, headers=headers | {"Content-Length": str(size)}
    )


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk
