"""DRISL, the canonical form of CBOR that the protocol signs (specs/data-model).

libipld provides the speed but is more lenient than the data model. So each decoded
value is encoded again and compared; the rest goes to `cbor_strict`.
"""

from __future__ import annotations

from typing import Any, Final

from libipld import decode_dag_cbor, encode_dag_cbor

from protocol.data import cbor_strict
from protocol.data.cbor_scan import needs_scan, scan
from protocol.data.cbor_strict import Value
from protocol.data.cid import BLOB_PREFIX, CID_BYTES, DATA_PREFIX, Cid, is_link
from protocol.errors import InvalidEncodingError, LimitExceededError
from protocol.limits import (
    MAX_CONTAINER_ITEMS,
    MAX_INT,
    MAX_MAP_KEY_BYTES,
    MAX_RECORD_DEPTH,
    MAX_RECORD_ITEMS,
    MIN_INT,
)

__all__ = ["Value", "check", "decode", "decode_fast", "encode"]

# Shorter input cannot hold a container or a key that is too large.
_UNSCANNED_BYTES: Final = min(MAX_CONTAINER_ITEMS, MAX_MAP_KEY_BYTES)
_LINK_HEAD: Final = 0xD8
_UNSETTLED: Final = object()


def encode(value: Value) -> bytes:
    """Return the canonical bytes of a value.

    Raises InvalidEncodingError for floats, other types, integers outside 64 bits
    signed, lone surrogates and invalid CIDs; LimitExceededError for more than 64 nested
    containers.
    """
    return cbor_strict.encode(value)


def decode(data: bytes, *, max_depth: int = MAX_RECORD_DEPTH) -> Value:
    """Return the value of canonical bytes, with links as `Cid`.

    Raises InvalidEncodingError for any other encoding, floats, integers outside 64 bits
    signed and trailing bytes; LimitExceededError for more than `max_depth` nested
    containers, 131,072 items in one or 262,144 in all, or a key of over 8,192 bytes.
    """
    value = _decode_with_libipld(data, max_depth)
    if value is _UNSETTLED:
        return cbor_strict.decode(data, max_depth=max_depth)
    return _mark_links(value)


def decode_fast(data: bytes, *, max_depth: int = MAX_RECORD_DEPTH) -> Any:
    """Return the value of canonical bytes as `decode`, with links as plain bytes."""
    value = _decode_with_libipld(data, max_depth)
    if value is _UNSETTLED:
        return _unmark_links(cbor_strict.decode(data, max_depth=max_depth))
    return value


def check(data: bytes, *, max_depth: int = MAX_RECORD_DEPTH) -> None:
    """Raise as `decode` does."""
    if _decode_with_libipld(data, max_depth) is _UNSETTLED:
        cbor_strict.decode(data, max_depth=max_depth)


def _decode_with_libipld(data: bytes, max_depth: int) -> Any:
    """Return the value with links as bytes, or _UNSETTLED if libipld cannot decide.

    Encoding to the same bytes proves the minimal, sorted form; `_is_plain` checks the
    rest. libipld encodes a byte string that reads as a CID as a link, so a difference
    proves nothing.
    """
    size = len(data)
    if needs_scan(size, _UNSCANNED_BYTES):
        scan(data, max_depth=max_depth, max_items=MAX_RECORD_ITEMS)
    try:
        value = decode_dag_cbor(data)
        encoded = encode_dag_cbor(value)
    except RecursionError as error:
        raise LimitExceededError("CBOR nested too deep") from error
    except ValueError as error:
        raise InvalidEncodingError(f"not canonical CBOR: {error}") from error
    if encoded != data:
        return _UNSETTLED
    if not _is_plain((value,), max_depth) or (
        size > _UNSCANNED_BYTES and not _has_short_keys(value)
    ):
        return _UNSETTLED
    return value


def _is_plain(items: Any, depth_left: int) -> bool:
    """Return True if the items of a container keep the rules of the data model."""
    if depth_left < 0:
        return False
    for item in items:
        kind = type(item)
        if kind is str:
            continue
        if kind is dict:
            if not _is_plain(item.values(), depth_left - 1):
                return False
        elif kind is list:
            if not _is_plain(item, depth_left - 1):
                return False
        elif kind is bytes:
            if not _is_blessed(item) and _reads_as_link(item) and not is_link(item):
                return False
        elif kind is int:
            if not MIN_INT <= item <= MAX_INT:
                return False
        elif kind is float:
            return False
    return True


def _has_short_keys(value: Any) -> bool:
    if type(value) is dict:
        return all(
            len(key.encode()) <= MAX_MAP_KEY_BYTES and _has_short_keys(item)
            for key, item in value.items()
        )
    return type(value) is not list or all(map(_has_short_keys, value))


def _is_blessed(raw: bytes) -> bool:
    return len(raw) == CID_BYTES and raw[:4] in (DATA_PREFIX, BLOB_PREFIX)


def _reads_as_link(raw: bytes) -> bool:
    """Return True if libipld would encode these bytes as a link."""
    encoded: bytes = encode_dag_cbor(raw)
    return encoded[0] == _LINK_HEAD


def _mark_links(value: Any) -> Value:
    """Replace links by `Cid`, in place, in a value that libipld encodes faithfully.

    In such a value the links are exactly the bytes that libipld encodes as links.
    """
    kind = type(value)
    if kind is bytes:
        return Cid(value) if _is_blessed(value) or _reads_as_link(value) else value
    if kind is dict:
        for key, item in value.items():
            kind = type(item)
            if kind is bytes or kind is dict or kind is list:
                value[key] = _mark_links(item)
    elif kind is list:
        for index, item in enumerate(value):
            kind = type(item)
            if kind is bytes or kind is dict or kind is list:
                value[index] = _mark_links(item)
    return value


def _unmark_links(value: Value) -> Any:
    kind = type(value)
    if kind is Cid:
        return value.raw
    if kind is dict:
        return {key: _unmark_links(item) for key, item in value.items()}
    if kind is list:
        return [_unmark_links(item) for item in value]
    return value
