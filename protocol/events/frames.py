"""Frames of event streams: a header and a payload, both CBOR (specs/event-stream).

Payloads have no `$type`; the header names their type.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from libipld import decode_dag_cbor_multi

from protocol.data import cbor
from protocol.data.cbor_scan import needs_scan, scan
from protocol.data.json_form import nests_deeper
from protocol.errors import InvalidEncodingError, LimitExceededError
from protocol.limits import MAX_FRAME_BYTES, MAX_FRAME_DEPTH, MAX_FRAME_ITEMS

MESSAGE_OP: Final = 1
ERROR_OP: Final = -1
INFO: Final = "#info"

_COMMIT: Final = "#commit"
_COMMIT_FIELDS: Final = ("repo", "did")
_ACCOUNT_FIELDS: Final = ("did", "repo")

# Shorter frames cannot take much memory.
_UNSCANNED_BYTES: Final = 16_384


class Frame(NamedTuple):
    """A decoded frame; `t` names the type of a message ("#commit"), else it is None.

    Links in `body` are plain bytes. `body` is a map for messages and errors, any value
    for unknown operations.
    """

    op: int
    t: str | None
    body: Any


def decode_frame(raw: bytes) -> Frame:
    """Decode a frame; unknown operations and types are accepted.

    Keys are sorted and unique, and text is UTF-8, but floats and overlong numbers pass:
    no hash covers a frame. Readers must check the type of each field they use.

    Raises LimitExceededError for more than 5,000,000 bytes, 64 nested containers or
    262,144 items, and InvalidEncodingError for malformed frames.
    """
    header, body = _decode_pair(raw)
    if type(header) is not dict:
        raise InvalidEncodingError("frame header is not a map")
    op = header.get("op")
    t = header.get("t")
    if type(op) is not int:
        raise InvalidEncodingError("frame header has no operation")
    if op == MESSAGE_OP:
        if type(t) is not str:
            raise InvalidEncodingError("message header has no type")
    elif type(t) is not str:
        t = None
    if type(body) is dict:
        if op == ERROR_OP and type(body.get("error")) is not str:
            raise InvalidEncodingError("error frame has no error name")
        is_too_deep = nests_deeper(body.values(), MAX_FRAME_DEPTH - 1)
    elif op in (MESSAGE_OP, ERROR_OP):
        raise InvalidEncodingError("frame payload is not a map")
    else:
        is_too_deep = nests_deeper((body,), MAX_FRAME_DEPTH)
    if is_too_deep:
        raise LimitExceededError("frame nested too deep")
    return Frame(op, t, body)


def peek_frame(raw: bytes) -> tuple[str | None, int | None]:
    """Return the account (`repo` of a commit, else `did`) and `seq`, for routing only.

    Either is None if absent or of the wrong type; both are None for errors and `#info`.
    Raises as `decode_frame` does if the bytes are not two CBOR items.
    """
    header, body = _decode_pair(raw)
    if type(header) is not dict or header.get("op") != MESSAGE_OP:
        return None, None
    t = header.get("t")
    if type(t) is not str or t == INFO or type(body) is not dict:
        return None, None
    # A message may carry both; route it by the field that verification uses.
    fields = _COMMIT_FIELDS if t == _COMMIT else _ACCOUNT_FIELDS
    account = body.get(fields[0])
    if account is None:
        account = body.get(fields[1])
    seq = body.get("seq")
    return (
        account if type(account) is str else None,
        seq if type(seq) is int else None,
    )


def encode_frame(t: str, body: dict[str, cbor.Value]) -> bytes:
    """Return the bytes of a message of type `t` ("#commit"), links as `Cid`.

    Raises as `cbor.encode`, and LimitExceededError for more than 5,000,000 bytes.
    """
    raw = cbor.encode({"op": MESSAGE_OP, "t": t}) + cbor.encode(body)
    if len(raw) > MAX_FRAME_BYTES:
        raise LimitExceededError("frame too large")
    return raw


def encode_error_frame(name: str, message: str | None = None) -> bytes:
    body = {"error": name} if message is None else {"error": name, "message": message}
    return cbor.encode({"op": ERROR_OP}) + cbor.encode(body)


def _decode_pair(raw: bytes) -> tuple[Any, Any]:
    if type(raw) is not bytes:
        raise InvalidEncodingError("frame is not binary")
    size = len(raw)
    if size > MAX_FRAME_BYTES:
        raise LimitExceededError("frame too large")
    if needs_scan(size, _UNSCANNED_BYTES):
        _scan_pair(raw)
    try:
        header, body = decode_dag_cbor_multi(raw)
    except RecursionError as error:
        raise LimitExceededError("frame nested too deep") from error
    except ValueError as error:
        raise InvalidEncodingError(f"not a frame: {error}") from error
    return header, body


def _scan_pair(raw: bytes) -> None:
    depth = MAX_FRAME_DEPTH
    body = scan(raw, max_depth=depth, max_items=MAX_FRAME_ITEMS)
    end = scan(raw, body, max_depth=depth, max_items=MAX_FRAME_ITEMS)
    if end != len(raw):
        raise InvalidEncodingError("bytes after the frame payload")
