"""Content identifiers (specs/data-model).

Most code holds a CID as 36 plain bytes: version 1, a codec and a SHA-256, the "blessed"
form. Records may hold links of other forms; `Cid` keeps those as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from libipld import decode_multibase, encode_multibase

from protocol.errors import InvalidEncodingError

DATA_PREFIX: Final = b"\x01\x71\x12\x20"
BLOB_PREFIX: Final = b"\x01\x55\x12\x20"
CID_BYTES: Final = 36
CID_TEXT_CHARS: Final = 59

_V0_PREFIX = b"\x12\x20"
_V0_BYTES = 34
_MAX_DIGEST_BYTES = 64
_MAX_VARINT_BYTES = 9
_CID_TEXT = re.compile(r"b[a-z2-7]{58}", re.ASCII)


def cid_for(block: bytes) -> bytes:
    return DATA_PREFIX + sha256(block).digest()


def raw_cid_for(blob: bytes) -> bytes:
    return BLOB_PREFIX + sha256(blob).digest()


def is_cid(raw: bytes) -> bool:
    """Return True if `raw` is a blessed CID, of a CBOR block or of a blob."""
    return len(raw) == CID_BYTES and raw[:4] in (DATA_PREFIX, BLOB_PREFIX)


def is_data_cid(raw: bytes) -> bool:
    return len(raw) == CID_BYTES and raw[:4] == DATA_PREFIX


def is_link(raw: bytes) -> bool:
    """Return True if `raw` is a CID of any version and codec.

    Varints must be minimal and a digest has at most 64 bytes.
    """
    if len(raw) == CID_BYTES and raw[:4] in (DATA_PREFIX, BLOB_PREFIX):
        return True
    if len(raw) == _V0_BYTES and raw[:2] == _V0_PREFIX:
        return True
    if raw[:1] != b"\x01":
        return False
    position = 1
    size = 0
    for _ in ("codec", "hash function", "digest size"):
        size, position = _read_varint(raw, position)
        if position < 0:
            return False
    return size <= _MAX_DIGEST_BYTES and len(raw) == position + size


def cid_to_text(raw: bytes) -> str:
    """Return the text of a CID: base32 ("b…"), or base58 ("Qm…") for version 0."""
    text: str
    if len(raw) == _V0_BYTES and raw[:2] == _V0_PREFIX:
        text = encode_multibase("z", raw)[1:]
    else:
        text = encode_multibase("b", raw)
    return text


def cid_from_text(text: str) -> bytes:
    """Return the bytes of a blessed CID in base32; raise InvalidEncodingError."""
    if len(text) == CID_TEXT_CHARS and _CID_TEXT.fullmatch(text) is not None:
        try:
            raw: bytes = decode_multibase(text)[1]
        except ValueError:  # nonzero spare bits in the last letter
            raw = b""
        if is_cid(raw):
            return raw
    raise InvalidEncodingError(f"not a CID: {text[:80]!r}")


@dataclass(frozen=True, slots=True)
class Cid:
    """A link inside a decoded value, as opposed to a byte string."""

    raw: bytes

    def __str__(self) -> str:
        return cid_to_text(self.raw)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a minimal varint and the position after it, or -1 for none."""
    value = shift = 0
    for byte in data[position : position + _MAX_VARINT_BYTES]:
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position if byte or not shift else -1
        shift += 7
    return 0, -1
