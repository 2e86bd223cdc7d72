"""Which frame of an event is sent on."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from indexer.event_frames import frame_of
from protocol.events import IdentityEvent
from protocol.frames import decode_frame, encode_frame
from protocol.limits import MAX_SEQ
from protocol.sequenced_frames import renumber
from protocol.syntax import Did

DID = Did("did:plc:" + "a" * 24)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
PLAIN = encode_frame("#identity", {"seq": 5, "did": DID, "time": "x", "more": 1})
HEADER = encode_frame("#identity", {})[:-1]
DEEP = b"\x61x" + b"\x81" * 70 + b"\x00"
DEEP_HEADER = b"\xa3" + HEADER[1:].replace(b"\x62op", DEEP + b"\x62op")


@pytest.mark.parametrize(
    "frame",
    [PLAIN.replace(b"\x63seq", b"\x78\x03seq"), DEEP_HEADER + PLAIN[len(HEADER) :]],
    ids=["long key", "deep header"],
)
def test_what_we_read_and_cannot_number_is_told_in_our_words(frame: bytes) -> None:
    # One of them in the log would end the stream of everybody.
    assert decode_frame(frame).body["seq"] == 5
    told = frame_of(IdentityEvent(DID, None, 5, 1, frame=frame), NOW)
    assert told != frame
    body = decode_frame(renumber(told, MAX_SEQ)).body
    assert (body["did"], body["seq"]) == (DID, MAX_SEQ)


def test_any_other_frame_is_sent_on_as_it_is() -> None:
    assert frame_of(IdentityEvent(DID, None, 5, 1, frame=PLAIN), NOW) == PLAIN
