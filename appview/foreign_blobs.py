"""Blobs of other servers: fetched whole and verified before a byte is sent."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from network.errors import BadResponseError, TooLargeError
from network.http.client import Fetcher
from network.http.responses import Streamed
from network.server.spool import Spooler, SpoolReader
from network.xrpc.server import XrpcError
from protocol.data.cid import BLOB_PREFIX

MAX_BLOB_BYTES: Final = 100_000_000
"""Largest blob that a lexicon allows: a video."""
_FETCH_SECONDS: Final = 120.0
_HELD: Final = 32
_PER_CLIENT: Final = 4
_MEMORY_BYTES: Final = 1_000_000
_TOTAL_BYTES: Final = 1_000_000_000
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9.+-]{1,60}/[a-z0-9.+-]{1,60}", re.ASCII)
_OCTETS: Final = "application/octet-stream"
_ABSENT: Final = frozenset((400, 403, 404, 410))


@dataclass(frozen=True, slots=True)
class Blob:
    """A verified blob, and its media type as the host has it."""

    body: SpoolReader
    media_type: str


class ForeignBlobs:
    """A client of com.atproto.sync.getBlob.

    Spools are apart from those of repos: slow hosts cannot take all of them.
    """

    def __init__(self, fetcher: Fetcher, folder: Path | None = None) -> None:
        self._fetcher = fetcher
        self._spooler = Spooler(
            held=_HELD,
            per_client=_PER_CLIENT,
            memory=_MEMORY_BYTES,
            total=_TOTAL_BYTES,
            folder=folder,
        )

    async def fetch(
        self, client: str, url: str, cid: bytes, is_client_gone: Callable[[], bool]
    ) -> Blob:
        """Fetch a blob for a client (its key). Raises XrpcError and NetworkError."""
        digest = sha256()

        async def read(answer: Streamed) -> AsyncIterator[bytes]:
            async for chunk in answer:
                digest.update(chunk)
                yield chunk

        try:
            async with self._fetcher.stream(
                url, max_bytes=MAX_BLOB_BYTES, timeout=_FETCH_SECONDS, redirects=1
            ) as answer:
                body = await self._spooler.collect(client, read(answer), is_client_gone)
                media_type = _media_type(answer.headers.get("Content-Type", ""))
        except TooLargeError as error:
            raise XrpcError("BlobNotFound", "Blob is too large", 400) from error
        except BadResponseError as error:
            if error.status in _ABSENT:
                raise XrpcError("BlobNotFound", "Blob not found", 400) from error
            raise
        if BLOB_PREFIX + digest.digest() != cid:
            await body.aclose()
            raise XrpcError("UpstreamFailure", "the host sent another blob", 502)
        return Blob(body, media_type)


def _media_type(header: str) -> str:
    named = header.partition(";")[0].strip().lower()
    return named if _MEDIA_TYPE.fullmatch(named) else _OCTETS
