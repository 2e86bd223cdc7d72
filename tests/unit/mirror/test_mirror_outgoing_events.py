"""Events of the log, on their way to subscribers."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mirror.outgoing_events import OutgoingEvents, numbered_frame
from protocol.events.frames import encode_frame
from storage.records import event_log

DID = "did:plc:" + "a" * 24
GOOD = encode_frame("#identity", {"seq": 5, "did": DID, "time": "x"})


@pytest.mark.parametrize(
    "bad", [GOOD.replace(b"\x63seq", b"\x78\x03seq"), GOOD[:-1]], ids=["seq", "cut"]
)
def test_outgoing_events_skip_an_unreadable_event(
    bad: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [GOOD, bad, GOOD, bad]
    log = [event_log.LoggedEvent(n, n, raw) for n, raw in enumerate(frames, 1)]
    monkeypatch.setattr(
        event_log,
        "events_after",
        lambda conn, seq, limit: [event for event in log if event.seq > seq][:limit],
    )
    monkeypatch.setattr(event_log, "find_hidden", lambda conn, dids: {})
    source = OutgoingEvents(cast("Any", None), numbered_frame)
    for after, limit, told in ((0, 9, [1, 3]), (1, 9, [3]), (1, 1, [3]), (3, 9, [])):
        events = source._read(cast("Any", None), after, limit)
        assert [seq for seq, _ in events] == told
