"""Canonical base64url without padding (RFC 4648, sections 3.5 and 5).

The standard library's decoder ignores unknown characters and spare bits, which would
give one signature many texts.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

from protocol.errors import InvalidEncodingError

_ALPHABET: Final = re.compile(r"[A-Za-z0-9_-]*")


def encode_base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """Return the bytes of `text`; raise InvalidEncodingError unless it is canonical."""
    if _ALPHABET.fullmatch(text) is None or len(text) % 4 == 1:
        raise InvalidEncodingError("not unpadded base64url")
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode_base64url(data) != text:
        raise InvalidEncodingError("base64url has nonzero spare bits")
    return data
