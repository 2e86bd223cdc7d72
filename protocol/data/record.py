"""What makes the bytes at a key of a tree a record that can be kept."""

from __future__ import annotations

from typing import Any

from protocol.data import cbor
from protocol.errors import LimitExceededError, ProtocolError
from protocol.events.drops import DropReason


def open_record(value: bytes, most: int) -> dict[str, Any] | DropReason:
    """The fields of a record, decoded by `cbor.decode_fast`, or why it cannot be kept:
    it has more than `most` bytes, nests too deep, is no canonical CBOR, or no map.

    Whether it fits a lexicon is asked later: what does not is kept, and not shown.
    """
    if len(value) > most:
        return DropReason.RECORD_TOO_LARGE
    try:
        fields = cbor.decode_fast(value)
    except LimitExceededError:
        return DropReason.RECORD_TOO_DEEP
    except ProtocolError:
        return DropReason.BAD_RECORD_ENCODING
    return fields if type(fields) is dict else DropReason.BAD_RECORD_TYPE
