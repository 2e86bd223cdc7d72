"""Frames of event streams: a header and a payload, both CBOR (specs/event-stream).

Payloads here have no `$type`: the header says what they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from libipld import decode_dag_cbor_multi

from protocol.data import cbor
from protocol.data.cbor_scan import needs_scan, scan
from protocol.errors import InvalidEncodingError, LimitExceededError
from protocol.limits import MAX_FRAME_BYTES, MAX_FRAME_DEPTH, MAX_FRAME_ITEMS

MESSAGE_OP: Final = 1
ERROR_OP: Final = -1
INFO: Final = "#info"

_COMMIT: Final = "#commit"
_COMMIT_FIELDS: Final = ("repo", "did")
_ACCOUNT_FIELDS: Final = ("did", "repo")

# What is shorter cannot take much memory.
_UNSCANNED_BYTES: Final = 16_384


class Frame(NamedTuple):
    """One frame. `t` names the payload of a message ("#commit"), None otherwise.

    Links in `body` are plain bytes. It is a map for messages and errors; for an
    operation that nobody knows yet it is whatever was sent.
    """

    op: int
    t: str | None
    body: Any


def decode_frame(raw: bytes) -> Frame:
    """Decode a frame; operations and types that are unknown are no fault.

    Not every rule of canonical CBOR is held up here. Keys are sorted, unique strings,
    text is UTF-8 and nothing is left over, but a float or a number written too long
    passes: nothing is ever hashed over a frame, what it carries in its blocks is
    checked as blocks, and a reader must look at the type of each field it uses.

    Raises LimitExceededError for more than 5,000,000 bytes, 64 nested containers or
    262,144 items; InvalidEncodingError for anything but exactly two CBOR items, a
    header that is none, or a message or error whose payload is no map.
    """
    header, body = _decode_pair(raw)
    if type(header) is not dict:
        raise InvalidEncodingError("the header of a frame is no map")
    op = header.get("op")
    t = header.get("t")
    if type(op) is not int:
        raise InvalidEncodingError("the header of a frame has no operation")
    if op == MESSAGE_OP:
        if type(t) is not str:
            raise InvalidEncodingError("the header of a message has no type")
    elif type(t) is not str:
        t = None
    if type(body) is dict:
        if op == ERROR_OP and type(body.get("error")) is not str:
            raise InvalidEncodingError("an error frame without an error")
        nests_deeper = _nests_deeper(body.values(), MAX_FRAME_DEPTH - 1)
    elif op in (MESSAGE_OP, ERROR_OP):
        raise InvalidEncodingError("the payload of a frame is no map")
    else:
        nests_deeper = _nests_deeper((body,), MAX_FRAME_DEPTH)
    if nests_deeper:
        raise LimitExceededError("frame nested too deep")
    return Frame(op, t, body)


def peek_frame(raw: bytes) -> tuple[str | None, int | None]:
    """The account (`repo` of a commit, else `did`) and the `seq`, for routing only.

    Either is None where the payload has none of the right type, both where the frame
    has no place in the order of its stream, whatever it says: it is no message, or an
    `#info`. Raises as `decode_frame` does where the bytes are not two CBOR items.
    """
    header, body = _decode_pair(raw)
    if type(header) is not dict or header.get("op") != MESSAGE_OP:
        return None, None
    t = header.get("t")
    if type(t) is not str or t == INFO or type(body) is not dict:
        return None, None
    # A message may carry both, and must go where it will be judged.
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
    """The bytes of a message of type `t` ("#commit"), links in `body` as `Cid`.

    Raises as `cbor.encode`, and LimitExceededError for more than 5,000,000 bytes.
    """
    raw = cbor.encode({"op": MESSAGE_OP, "t": t}) + cbor.encode(body)
    if len(raw) > MAX_FRAME_BYTES:
        raise LimitExceededError("frame too large")
    return raw


def encode_error_frame(name: str, message: str | None = None) -> bytes:
    """The bytes of an error, after which the stream is closed."""
    body = {"error": name} if message is None else {"error": name, "message": message}
    return cbor.encode({"op": ERROR_OP}) + cbor.encode(body)


def _decode_pair(raw: bytes) -> tuple[Any, Any]:
    if type(raw) is not bytes:
        raise InvalidEncodingError("a frame that is not binary")
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
        raise InvalidEncodingError("bytes behind the payload of a frame")


def _nests_deeper(items: Iterable[Any], depth_left: int) -> bool:
    """Whether containers among `items`, which stand inside one, nest too deep."""
    for item in items:
        kind = type(item)
        if kind is dict:
            if not depth_left or _nests_deeper(item.values(), depth_left - 1):
                return True
        elif kind is list and (not depth_left or _nests_deeper(item, depth_left - 1)):
            return True
    return False
