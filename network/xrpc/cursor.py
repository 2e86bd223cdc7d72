"""Paging cursors that only we can make: a list of values, sealed with an HMAC.

Opaque to clients (specs/xrpc), but not secret: never seal what a client must not see.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from hashlib import sha256
from typing import Any, Final

from network.errors import XrpcError

MAX_CURSOR_CHARS: Final = 2_048
_SEAL_BYTES: Final = 16


def _seal(secret: bytes, scope: str, payload: bytes) -> bytes:
    # The length keeps scope and payload apart: no pair can be read as another pair.
    message = len(scope).to_bytes(4, "big") + scope.encode() + payload
    return hmac.digest(secret, message, sha256)[:_SEAL_BYTES]


def seal_cursor(secret: bytes, values: list[Any], *, scope: str = "") -> str:
    """A cursor that carries `values` (JSON values).

    `scope` binds it to where it was given out, e.g. the NSID and the query: opened
    under another scope it is invalid.
    """
    payload = json.dumps(values, separators=(",", ":"), allow_nan=False).encode()
    sealed = _seal(secret, scope, payload) + payload
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def open_cursor(secret: bytes, text: str, *, scope: str = "") -> list[Any]:
    """The values of a cursor; XrpcError InvalidCursor (400) if we never sealed it."""
    sealed = _decode(text)
    payload = sealed[_SEAL_BYTES:]
    if not hmac.compare_digest(sealed[:_SEAL_BYTES], _seal(secret, scope, payload)):
        raise _invalid()
    values: list[Any] = json.loads(payload)  # our own bytes, proven by the seal
    return values


def _decode(text: str) -> bytes:
    if len(text) > MAX_CURSOR_CHARS or not text.isascii():
        raise _invalid()
    padded = text + "=" * (-len(text) % 4)
    try:
        sealed = base64.b64decode(padded, altchars=b"-_", validate=True)
    except binascii.Error:
        raise _invalid() from None
    # One cursor has one spelling: no stray bits, no padding of the client's own.
    if base64.urlsafe_b64encode(sealed).rstrip(b"=").decode() != text:
        raise _invalid()
    return sealed


def _invalid() -> XrpcError:
    return XrpcError("InvalidCursor", "cursor is malformed or not ours", 400)
