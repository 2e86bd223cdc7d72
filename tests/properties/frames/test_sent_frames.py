"""Every accepted frame can be rebroadcast: logged, replayed, and sent by Jetstream."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any, cast

import pytest
from sent_frames import HOST, events, expected_commits

from crawler.live.gate_frame import read_frame
from crawler.live.gate_result import GateResult
from crawler.live.stream_state import StreamState
from indexer import event_frames
from mirror.jetstream_events import EventMessages, Message
from mirror.outgoing_events import OutgoingEvents, numbered_frame
from protocol.events.event import AccountEvent, IdentityEvent
from protocol.events.frames import decode_frame
from protocol.limits import MAX_FRAME_BYTES
from storage.postgres.pool import Conn
from storage.records import event_log


def replay(conn: Conn, form: Callable[[Any], Any], seq: int = 0) -> list[Any]:
    """Return all that a subscriber gets from a cursor on, page by page."""
    source = OutgoingEvents(cast("Any", None), form)
    found: list[Any] = []
    while page := source._read(conn, seq, 50):
        found += page
        seq = page[-1][0]
    return found


def log_events(conn: Conn, seed: int, count: int) -> list[Any]:
    logged = events(seed, count)
    for start in range(0, count, 70):
        part = logged[start : start + 70]
        event_log.append(conn, [item[1] for item in part], [item[2] for item in part])
        conn.commit()
        event_log.number_events(conn, 1_000_000 + start)
    return logged


def check_frames(conn: Conn, logged: list[Any]) -> None:
    """Check that each frame is replayed once, unchanged, and that others accept it."""
    found = replay(conn, numbered_frame)
    assert [seq for seq, _ in found] == list(range(1, len(logged) + 1))
    stream = StreamState(1, HOST, relay=True)
    for (seq, raw), (event, frame, _) in zip(found, logged, strict=True):
        assert len(raw) <= MAX_FRAME_BYTES
        theirs, ours = decode_frame(frame), decode_frame(raw)
        # NaN is not equal to itself; its text is.
        assert repr({**theirs.body, "seq": seq}) == repr(ours.body)
        message = read_frame(stream, raw, GateResult(), bad_seqs_allowed=1)
        assert message is not None
        assert message.plain
        assert (message.did, message.seq, message.t) == (event.did, seq, theirs.t)
    assert stream.fault is None


def check_jetstream(conn: Conn, logged: list[Any]) -> None:
    told = []
    for (_, moment), (event, frame, count) in zip(
        replay(conn, EventMessages), logged, strict=True
    ):
        messages = [message for message in moment.messages if message.data]
        texts = [json.loads(message.data) for message in messages]
        assert all(text["did"] == event.did for text in texts)
        assert len(moment.messages) <= count
        told += [text["time_us"] for text in texts]
        if isinstance(event, IdentityEvent | AccountEvent):
            (text,) = texts
            kind = text["kind"]
            fields = text[kind]
            assert fields["did"] == event.did
            assert type(fields["seq"]) is int
            names = ("handle", "time") if kind == "identity" else ("status", "time")
            assert all(type(fields.get(name, "")) is str for name in names)
            if isinstance(event, AccountEvent):
                assert (kind, fields["active"]) == ("account", event.active)
        else:
            commits = [text["commit"] for text in texts]
            gone = {drop.path for drop in getattr(event, "drops", ())}
            shown = [
                fields
                for fields in commits
                if f"{fields['collection']}/{fields['rkey']}" not in gone
                or "record" in fields
            ]
            assert shown == expected_commits(event, frame)
    assert all(before < after for before, after in itertools.pairwise(told))


def check_cursors(conn: Conn) -> None:
    """Check that a time cursor replays exactly the later messages."""
    everything: list[Message] = [
        message
        for _, moment in replay(conn, EventMessages)
        for message in moment.messages
    ]
    times = [message.time_us for message in everything]
    for time_us in {0, *times[::211], *(at + 1 for at in times[::179]), times[-1] + 1}:
        seq = event_log.find_seq(conn, time_us)
        again = [
            message.data
            for _, moment in replay(conn, EventMessages, seq)
            for message in moment.messages
            if message.time_us >= time_us
        ]
        assert again == [m.data for m in everything if m.time_us >= time_us]


@pytest.mark.parametrize("seed", range(3))
def test_accepted_frames_can_be_rebroadcast(conn: Conn, seed: int) -> None:
    logged = log_events(conn, seed, 200)
    kinds = {type(event).__name__ for event, _, _ in logged}
    assert kinds == {"CommitEvent", "SyncEvent", "IdentityEvent", "AccountEvent"}
    check_frames(conn, logged)
    check_jetstream(conn, logged)
    check_cursors(conn)


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(40, 50))
def test_many_accepted_frames_can_be_rebroadcast(conn: Conn, seed: int) -> None:
    logged = log_events(conn, seed, 5_000)
    check_frames(conn, logged)
    check_jetstream(conn, logged)


def test_log_that_accepts_every_frame_is_detected(
    conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_frames, "_can_be_numbered", lambda *_: True)
    logged = log_events(conn, 0, 300)
    with pytest.raises(AssertionError):
        check_frames(conn, logged)
