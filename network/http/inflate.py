"""Bodies that arrive compressed although plain ones were requested, with a cap."""

from __future__ import annotations

import zlib
from typing import Final

from network.errors import BadResponseError, TooLargeError

_WINDOWS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_STEP: Final = 65_536
# JSON and repos do not compress this well: such a body is a bomb.
_MOST_RATIO: Final = 100
_ANY_RATIO_BYTES: Final = 1_000_000


class BodyReader:
    """A reader that counts a body and inflates it in small steps, up to a ratio.

    `encoding` is the `Content-Encoding` header. Raises BadResponseError if it is none
    of identity, gzip and deflate.
    """

    def __init__(self, encoding: str, max_bytes: int, status: int) -> None:
        name = encoding.strip().lower()
        self._left = max_bytes
        self._max_bytes = max_bytes
        self._inflater: zlib._Decompress | None = None
        self._status = status
        self._packed = 0
        if name in _WINDOWS:
            self._inflater = zlib.decompressobj(_WINDOWS[name])
        elif name not in ("", "identity"):
            raise BadResponseError(f"encoding {name[:40]!r} was not asked for", status)

    def _count(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise TooLargeError(f"body is over {self._max_bytes} bytes")
        return data

    def _check_ratio(self) -> None:
        unpacked = self._max_bytes - self._left
        if unpacked > max(_ANY_RATIO_BYTES, _MOST_RATIO * self._packed):
            raise TooLargeError(
                f"body unpacks to over {_MOST_RATIO} times its {self._packed} bytes"
            )

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return plain pieces of the body. Raises TooLargeError, BadResponseError."""
        if self._inflater is None:
            return [self._count(chunk)]
        pieces = []
        try:
            while chunk:
                piece = self._inflater.decompress(chunk, _STEP)
                self._packed += len(chunk) - len(self._inflater.unconsumed_tail)
                if piece:
                    pieces.append(self._count(piece))
                    self._check_ratio()
                chunk = self._inflater.unconsumed_tail
        except zlib.error as error:
            raise BadResponseError("body is not compressed", self._status) from error
        return pieces

    def finish(self) -> None:
        """Raise BadResponseError if the compressed body was cut short."""
        if self._inflater is not None and not self._inflater.eof:
            raise BadResponseError("compressed body is cut short", self._status)
