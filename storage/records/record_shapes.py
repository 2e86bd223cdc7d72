"""Compact forms of the four most common records: like, repost, follow and block.

Each is a fixed text around a DID, a TID, a CID and a time. As those values a like takes
62 bytes (a follow 22), where compression takes 102 (46). Only records of exactly this
form are taken, and restored byte for byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from libipld import decode_multibase, encode_multibase

from protocol.data.cid import DATA_PREFIX
from protocol.syntax.tid import Tid, tid_of_bits, tid_to_int
from storage.collections import (
    FEED_LIKE,
    FEED_POST,
    FEED_REPOST,
    GRAPH_BLOCK,
    GRAPH_FOLLOW,
)

FIRST_SHAPE: Final = 240
"""Stored records that begin with this byte or a higher one are shapes."""

_EPOCH: Final = datetime(1970, 1, 1)
_MILLISECOND: Final = timedelta(milliseconds=1)
_DID_BYTES: Final = 15
_TID_BYTES: Final = 8
_TIME_BYTES: Final = 6
_DAY: Final = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME: Final = _DAY + rb"T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"
_HOUR: Final = rb"([01][0-9]|2[0-3])"
_SPLIT_TIME: Final = b"".join(
    (rb"(", _DAY, rb")T", _HOUR, rb":([0-5][0-9]):([0-5][0-9])\.([0-9]{3})Z")
)


class Edge(NamedTuple):
    """The target of a shape, a post or an account, and the stored form."""

    nsid: str
    did: str
    rkey: str | None
    """The record key of the post; None for an account."""
    stored: bytes


@dataclass(frozen=True, slots=True)
class Shape:
    """One of the four forms. `head` is the start of its records.

    `pattern` matches a whole record: CID, DID and TID of the target, or its DID alone,
    then day, hour, minute, second and millisecond.
    """

    number: int
    nsid: str
    of_record: bool
    head: bytes

    @property
    def mark(self) -> bytes:
        """Return the first byte of the stored form."""
        return bytes([FIRST_SHAPE + self.number])

    @property
    def size(self) -> int:
        """Return the size of each of its records."""
        return len(self.head) + (
            _RECORD_END_BYTES if self.of_record else _DID_END_BYTES
        )

    @property
    def pattern(self) -> bytes:
        """Return the regular expression that matches exactly its records."""
        return re.escape(self.head) + _ends(_SPLIT_TIME)[self.of_record]


def _text(text: str) -> bytes:
    raw = text.encode()
    size = len(raw)
    return (bytes([0x60 + size]) if size < 24 else bytes([0x78, size])) + raw


def _head(nsid: str, of_record: bool) -> bytes:
    head = b"\xa3" + _text("$type") + _text(nsid) + _text("subject")
    if of_record:
        return head + b"\xa2" + _text("cid") + b"\x78\x3b"
    return head + b"\x78\x20did:plc:"


SHAPES: Final = tuple(
    Shape(number, nsid, of_record, _head(nsid, of_record))
    for number, (nsid, of_record) in enumerate(
        (
            (FEED_LIKE, True),
            (FEED_REPOST, True),
            (GRAPH_FOLLOW, False),
            (GRAPH_BLOCK, False),
        )
    )
)
_URI: Final = _text("uri") + b"\x78\x46at://did:plc:"
_POST: Final = b"/" + FEED_POST.encode() + b"/"
_CREATED: Final = _text("createdAt") + b"\x78\x18"
# Exactly the texts of valid record CIDs: the letters beside the digest's own bits are
# restricted.
_CID: Final = rb"bafyrei[a-h][a-z2-7]{50}[aeimquy4]"


def _ends(time: bytes) -> dict[bool, bytes]:
    """Return the patterns behind the head: for a record (True) and an account."""
    did = rb"([a-z2-7]{24})"
    tid = rb"([2-7a-j][2-7a-z]{12})"
    created = re.escape(_CREATED) + time
    uri, post = re.escape(_URI), re.escape(_POST)
    return {
        True: b"".join((rb"(", _CID, rb")", uri, did, post, tid, created)),
        False: did + created,
    }


_ENDS: Final = {
    of_record: re.compile(pattern)
    for of_record, pattern in _ends(rb"(" + _TIME + rb")").items()
}
_RECORD_END_BYTES: Final = 59 + len(_URI) + 24 + len(_POST) + 13 + len(_CREATED) + 24
_DID_END_BYTES: Final = 24 + len(_CREATED) + 24
_NUMBERS: Final = tuple(shape.mark for shape in SHAPES)
# The name's length and first letters distinguish the four.
_BY_HEAD: Final = {shape.head[7:22]: shape for shape in SHAPES}


def read_edge(raw: bytes) -> Edge | None:
    """Return the edge of a record of exactly a shape; None for any other."""
    shape = _BY_HEAD.get(raw[7:22])
    if shape is None or not raw.startswith(shape.head):
        return None
    match = _ENDS[shape.of_record].fullmatch(raw, len(shape.head))
    if match is None:
        return None
    groups = match.groups()
    try:
        time = datetime.fromisoformat(groups[-1][:-1].decode())
    except ValueError:
        return None
    milliseconds = (time - _EPOCH) // _MILLISECOND
    if milliseconds < 0:
        return None
    number = _NUMBERS[shape.number]
    end = milliseconds.to_bytes(_TIME_BYTES, "big")
    if not shape.of_record:
        did = groups[0].decode()
        return Edge(shape.nsid, "did:plc:" + did, None, number + _pack_did(did) + end)
    cid: bytes = decode_multibase(groups[0].decode())[1]
    did, rkey = groups[1].decode(), groups[2].decode()
    tid = tid_to_int(Tid(rkey)).to_bytes(_TID_BYTES, "big")
    stored = b"".join((number, _pack_did(did), tid, cid[4:], end))
    return Edge(shape.nsid, "did:plc:" + did, rkey, stored)


def unpack_shape(stored: bytes) -> bytes:
    """Return the exact bytes of an edge's record from its stored form."""
    shape = SHAPES[stored[0] - FIRST_SHAPE]
    did = encode_multibase("b", stored[1 : 1 + _DID_BYTES])[1:].encode()
    milliseconds = int.from_bytes(stored[-_TIME_BYTES:], "big")
    time = _EPOCH + milliseconds * _MILLISECOND
    end = time.isoformat(timespec="milliseconds").encode() + b"Z"
    if not shape.of_record:
        return b"".join((shape.head, did, _CREATED, end))
    rest = stored[1 + _DID_BYTES : -_TIME_BYTES]
    tid = tid_of_bits(int.from_bytes(rest[:_TID_BYTES], "big")).encode()
    cid = encode_multibase("b", DATA_PREFIX + rest[_TID_BYTES:]).encode()
    return b"".join((shape.head, cid, _URI, did, _POST, tid, _CREATED, end))


def _pack_did(text: str) -> bytes:
    raw: bytes = decode_multibase("b" + text)[1]
    return raw
