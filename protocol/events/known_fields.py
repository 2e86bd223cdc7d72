"""Fields of messages that the lexicon defines (com.atproto.sync.subscribeRepos).

Only these are rebroadcast; nothing else in a message is verified.
"""

from __future__ import annotations

from typing import Any, Final

from protocol.data import cbor
from protocol.data.cid import Cid
from protocol.errors import ProtocolError
from protocol.events.frames import MESSAGE_OP, decode_frame, encode_frame
from protocol.limits import (
    MAX_CID_BYTES,
    MAX_COMMIT_OPS,
    MAX_DATETIME_CHARS,
    MAX_HANDLE_CHARS,
)

_COMMIT: Final = "#commit"
_FIELDS: Final = {
    _COMMIT: frozenset(
        (
            *("seq", "time", "repo", "rev", "since", "commit", "prevData", "blocks"),
            *("ops", "blobs", "rebase", "tooBig"),
        )
    ),
    "#sync": frozenset(("seq", "time", "did", "rev", "blocks")),
    "#identity": frozenset(("seq", "time", "did", "handle")),
    "#account": frozenset(("seq", "time", "did", "active", "status")),
}
_OP_FIELDS: Final = frozenset(("action", "path", "cid", "prev"))
_OP_LINKS: Final = ("cid", "prev")
_LINKS: Final = frozenset(("commit", "prevData"))
_NO_BLOBS: Final[list[Any]] = []
_HEADERS: Final = {t: cbor.encode({"op": MESSAGE_OP, "t": t}) for t in _FIELDS}

# The longest account status in use has fourteen characters.
MAX_STATUS_CHARS: Final = 128
# `blobs` is deprecated and cannot be verified; a longer list is emptied.
MAX_BLOBS: Final = MAX_COMMIT_OPS


def is_plain(raw: bytes, t: str, body: dict[str, Any]) -> bool:
    """Return True if a message holds only fields that the lexicon defines.

    `raw` is its frame and `body` the result of `decode_frame`. Fields that the proof
    covers are not checked again.
    """
    if not (raw.startswith(_HEADERS[t]) and body.keys() <= _FIELDS[t]):
        return False
    if not _is_time(body.get("time")):
        return False
    if t == _COMMIT:
        return _has_plain_ops(body) and _has_plain_rest(body)
    return _is_text(body.get("handle"), MAX_HANDLE_CHARS) and _is_text(
        body.get("status"), MAX_STATUS_CHARS
    )


def plain_commit(raw: bytes, time: str) -> bytes | None:
    """Return the frame of a proven commit without fields unknown to the lexicon.

    `time` is used if the frame has none. Returns None if the frame cannot be encoded.
    """
    body = decode_frame(raw).body
    fields = {name: body[name] for name in _FIELDS[_COMMIT] & body.keys()}
    for name in _LINKS & fields.keys():
        fields[name] = _link(fields[name])
    fields["ops"] = [
        {
            name: _link(op[name]) if name in _OP_LINKS else op[name]
            for name in _OP_FIELDS & op.keys()
        }
        for op in body["ops"]
    ]
    if _has_plain_rest(body):
        fields["blobs"] = [_link(blob) for blob in body.get("blobs", ())]
    else:
        fields |= {"blobs": [], "rebase": False, "tooBig": False}
    if not _is_time(body.get("time")):
        fields["time"] = time
    try:
        return encode_frame(_COMMIT, fields)
    except ProtocolError:
        return None


def _has_plain_ops(body: dict[str, Any]) -> bool:
    ops = body.get("ops")
    if type(ops) is not list:
        return False
    for op in ops:  # noqa: SIM110  (twice as fast as all())
        if type(op) is not dict or not op.keys() <= _OP_FIELDS:
            return False
    return True


def _has_plain_rest(body: dict[str, Any]) -> bool:
    """Return True if the deprecated fields of a commit have the right types."""
    blobs = body.get("blobs", _NO_BLOBS)
    return (
        type(body.get("rebase", False)) is bool
        and type(body.get("tooBig", False)) is bool
        and type(blobs) is list
        and (not blobs or _are_links(blobs))
    )


def _are_links(blobs: list[Any]) -> bool:
    return len(blobs) <= MAX_BLOBS and all(
        type(blob) is bytes and len(blob) <= MAX_CID_BYTES for blob in blobs
    )


def _is_time(value: Any) -> bool:
    return type(value) is str and len(value) <= MAX_DATETIME_CHARS


def _is_text(value: Any, most: int) -> bool:
    return value is None or (type(value) is str and len(value) <= most)


def _link(raw: bytes | None) -> Cid | None:
    return None if raw is None else Cid(raw)
