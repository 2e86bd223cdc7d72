"""Frames that rebroadcast an event."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from indexer.event_frames import frame_of
from protocol.data.cid import cid_for
from protocol.events.event import AccountEvent, Event, IdentityEvent, SyncEvent
from protocol.events.frames import decode_frame, encode_frame
from protocol.events.sequenced_frames import renumber
from protocol.limits import MAX_SEQ
from protocol.syntax import Did
from protocol.syntax.tid import Tid

DID = Did("did:plc:" + "a" * 24)
ROOT = cid_for(b"")
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
def test_unnumberable_commit_becomes_sync(frame: bytes) -> None:
    # One of them in the log would end every subscriber's stream.
    assert decode_frame(frame).body["seq"] == 5
    told = frame_of(IdentityEvent(DID, None, 5, 1, frame=frame), NOW)
    assert told != frame
    body = decode_frame(renumber(told, MAX_SEQ)).body
    assert (body["did"], body["seq"]) == (DID, MAX_SEQ)


@pytest.mark.parametrize("kind", ["#identity", "#account", "#sync"])
def test_large_unsigned_frame_is_rewritten(kind: str) -> None:
    fields: dict[str, Any] = {
        "seq": 5,
        "did": DID,
        "active": True,
        "rev": "3" + "2" * 12,
    }
    for size, sent_on in ((9_000, True), (4_900_000, False)):
        frame = encode_frame(kind, fields | {"more": "x" * size})
        event: Event = {
            "#identity": IdentityEvent(DID, None, 5, 1, frame=frame),
            "#account": AccountEvent(DID, True, None, 5, 1, frame=frame),
            "#sync": SyncEvent(
                DID, Tid("3" + "2" * 12), ROOT, b"commit", 5, 1, frame=frame
            ),
        }[kind]
        told = frame_of(event, NOW)
        assert (told == frame) == sent_on
        assert len(told) < 10_000
        assert decode_frame(told).t == kind


def test_long_status_is_not_rebroadcast() -> None:
    told = frame_of(AccountEvent(DID, False, "x" * 4_900_000, 5, 1), NOW)
    assert len(told) < 1_000
    assert decode_frame(told).body["active"] is False


def test_usual_frame_is_rebroadcast_unchanged() -> None:
    assert frame_of(IdentityEvent(DID, None, 5, 1, frame=PLAIN), NOW) == PLAIN
