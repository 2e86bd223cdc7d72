"""Decoding of records, with the reason for those that cannot be kept."""

from __future__ import annotations

from typing import Any

from protocol.data import cbor
from protocol.errors import LimitExceededError, ProtocolError
from protocol.events.drops import DropReason


def open_record(value: bytes, most: int) -> dict[str, Any] | DropReason:
    """Return the decoded fields of a record, or the reason why it cannot be kept.

    A record has at most `most` bytes and is a map in canonical CBOR. Its lexicon is
    checked later: a record that does not fit is kept but not shown.
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
