"""Range requests for one span of bytes (RFC 9110, section 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from network.errors import XrpcError

_RANGE: Final = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.ASCII)
_NOT_SATISFIABLE: Final = 416


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `start` up to `end`, which is not included, of `size`."""

    start: int
    end: int
    size: int

    @property
    def content_range(self) -> str:
        """Return the Content-Range header of that answer."""
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """Return the span that a Range header asks of `size` bytes.

    None means all bytes: without a header, and for a header that is malformed, in
    another unit or asks for several spans, which a server may ignore. Raises XrpcError
    416 for a span that lies behind the end.
    """
    match = None if header is None else _RANGE.fullmatch(header)
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        start = int(match[1])
        end = int(match[2]) + 1 if match[2] else size
        if end <= start and match[2]:
            return None
        end = min(end, size)
    else:
        start, end = max(0, size - int(match[2])), size
    if start >= end:
        raise XrpcError(
            "RangeNotSatisfiable",
            f"the range lies outside of {size} bytes",
            _NOT_SATISFIABLE,
            {"Content-Range": f"bytes */{size}"},
        )
    return ByteRange(start, end, size)
