"""Frames of our own stream: renumbered frames of others, and new ones (specs/sync)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from protocol.data import cbor
from protocol.data.cbor_scan import scan
from protocol.data.cid import cid_for
from protocol.errors import InvalidEncodingError
from protocol.events.frames import encode_frame
from protocol.limits import MAX_FRAME_BYTES, MAX_FRAME_DEPTH
from protocol.repo.car import car_block, car_header

SYNC: Final = "#sync"
IDENTITY: Final = "#identity"
ACCOUNT: Final = "#account"

# A renumbered frame may grow by the 8 bytes of a longer sequence number.
MAX_RENUMBERED_BYTES: Final = MAX_FRAME_BYTES - 8

_SEQ_KEY: Final = b"\x63seq"
_UNNUMBERED: Final = 0


def renumber(raw: bytes, seq: int) -> bytes:
    """Return a frame, valid for `decode_frame`, with another `seq`.

    Raises InvalidEncodingError if it has no `seq`.
    """
    body = scan(raw, max_depth=MAX_FRAME_DEPTH)
    pairs, position = _map_head(raw, body)
    for _ in range(pairs):
        value = scan(raw, position, max_depth=MAX_FRAME_DEPTH)
        if raw[position:value] == _SEQ_KEY:
            end = scan(raw, value, max_depth=MAX_FRAME_DEPTH)
            return raw[:value] + cbor.encode(seq) + raw[end:]
        position = scan(raw, value, max_depth=MAX_FRAME_DEPTH)
    raise InvalidEncodingError("frame has no seq")


def sync_frame(did: str, rev: str, commit: bytes, time: str) -> bytes:
    """Return a frame, not numbered yet, that announces a signed commit block."""
    cid = cid_for(commit)
    blocks = car_header(cid) + car_block(cid, commit)
    return _encode(SYNC, did, time, {"rev": rev, "blocks": blocks})


def account_frame(did: str, active: bool, status: str | None, time: str) -> bytes:
    """Return a frame, not numbered yet, that announces the state of an account."""
    fields: dict[str, Any] = {"active": active}
    if status is not None:
        fields["status"] = status
    return _encode(ACCOUNT, did, time, fields)


def identity_frame(did: str, handle: str | None, time: str) -> bytes:
    """Return a frame, not numbered yet, that announces a change of identity."""
    return _encode(IDENTITY, did, time, {} if handle is None else {"handle": handle})


def utc_text(now: datetime) -> str:
    """Return the time of a frame, to the millisecond."""
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _encode(t: str, did: str, time: str, fields: dict[str, Any]) -> bytes:
    return encode_frame(t, {"seq": _UNNUMBERED, "did": did, "time": time, **fields})


def _map_head(raw: bytes, position: int) -> tuple[int, int]:
    """Return the number of pairs of a map, and the start of the first."""
    if position < len(raw) and raw[position] >> 5 == 5:
        argument = raw[position] & 0x1F
        if argument < 24:
            return argument, position + 1
        if argument < 28:
            end = position + 1 + 2 ** (argument - 24)
            return int.from_bytes(raw[position + 1 : end], "big"), end
    raise InvalidEncodingError("frame payload is not a map")
