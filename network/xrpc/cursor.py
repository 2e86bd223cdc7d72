"""Signed paging cursors: a list of values, sealed with an HMAC.

Opaque to clients (specs/xrpc), but not secret: never seal a value that a client must
not see.
"""

from __future__ import annotations

import hmac
import json
from hashlib import sha256
from typing import Any, Final

from network.errors import XrpcError
from protocol.data.base64url import decode_base64url, encode_base64url
from protocol.errors import InvalidEncodingError

MAX_CURSOR_CHARS: Final = 2_048
_SEAL_BYTES: Final = 16


def _seal(secret: bytes, scope: str, payload: bytes) -> bytes:
    # The length separates scope and payload, so no pair reads as another pair.
    message = len(scope).to_bytes(4, "big") + scope.encode() + payload
    return hmac.digest(secret, message, sha256)[:_SEAL_BYTES]


def seal_cursor(secret: bytes, values: list[Any], *, scope: str = "") -> str:
    """Return a cursor that carries `values` (JSON values).

    `scope` binds it to its use, e.g. the NSID and the query: under another scope it is
    invalid.
    """
    payload = json.dumps(values, separators=(",", ":"), allow_nan=False).encode()
    sealed = _seal(secret, scope, payload) + payload
    return encode_base64url(sealed)


def open_cursor(secret: bytes, text: str, *, scope: str = "") -> list[Any]:
    """Return the values of a cursor. Raises XrpcError 400 for any but our own."""
    if len(text) > MAX_CURSOR_CHARS:
        raise _invalid()
    try:
        sealed = decode_base64url(text)
    except InvalidEncodingError:
        raise _invalid() from None
    payload = sealed[_SEAL_BYTES:]
    if not hmac.compare_digest(sealed[:_SEAL_BYTES], _seal(secret, scope, payload)):
        raise _invalid()
    values: list[Any] = json.loads(payload)  # our own bytes, by the seal
    return values


def _invalid() -> XrpcError:
    return XrpcError("InvalidCursor", "cursor is malformed or not ours", 400)
