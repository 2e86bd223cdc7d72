"""Base64url without padding, in its one canonical form (RFC 4648, sections 5, 3.5).

The standard library's decoder skips characters that it does not know and ignores the
spare bits of the last one, so that one signature has many texts. Not here.
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
    """The bytes of `text`; raises InvalidEncodingError unless it is canonical."""
    if _ALPHABET.fullmatch(text) is None or len(text) % 4 == 1:
        raise InvalidEncodingError("text is not unpadded base64url")
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode_base64url(data) != text:
        raise InvalidEncodingError("base64url text has spare bits that are not zero")
    return data
