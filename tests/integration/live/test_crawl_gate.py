"""Frames through the gate: accounts, framing, numbers, scope and the proof."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import pytest
from crawl_author import Author, account_frame, identity_frame, post
from gate_bench import HONEST, Bench, reasons

from crawler.live.gate_result import ResetHost
from crawler.live.stream_state import Fault
from crawler.scope.admission import IDENTITY_JOB, LOOKUP_JOB, Admission
from crawler.settings import CrawlSettings
from protocol.events.drops import DropReason
from protocol.events.event import AccountEvent, CommitEvent, IdentityEvent, SyncEvent
from protocol.events.frames import encode_error_frame, encode_frame
from storage.postgres.pool import Pool
from storage.repos.scope_rows import ScopeKind, set_scope


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_gate_applies_the_first_commit_of_a_resolved_account(
    bench: Bench, curve: str
) -> None:
    stream, author = bench.stream(), bench.author(1, curve=curve)
    author.write([("create", f"app.bsky.feed.post/{author.new_rkey()}", post("hi"))])
    passed = bench.take(stream, author.frame(1))
    [event] = passed.events
    assert isinstance(event, CommitEvent)
    assert (event.did, event.host, event.seq) == (author.did, stream.host, 1)
    assert passed.marks == {stream.host: 1}
    assert bench.repo(author)[0] == HONEST
    assert bench.jobs() == {IDENTITY_JOB: 1}
    assert bench.lookups == 0


def test_frame_of_an_unknown_account_ends_in_a_repo_to_fetch(bench: Bench) -> None:
    stream, author = bench.stream(), bench.author(1, known=False)
    author.write([("create", f"app.bsky.feed.post/{author.new_rkey()}", post("hi"))])
    passed = bench.take(stream, author.frame(1), identity_frame(author.did, 2))
    assert passed.events == []
    assert reasons(passed) == {DropReason.UNKNOWN_ACCOUNT: 2}
    assert passed.marks == {stream.host: 2}, "nothing waits for the directory"
    assert bench.jobs() == {LOOKUP_JOB: 1}
    bench.settle()
    assert bench.lookups == 1
    assert bench.repo(author) == (HONEST, "desynchronized")
    assert bench.jobs() == {IDENTITY_JOB: 1}
    # Known from now on.
    author.write([("create", f"app.bsky.feed.post/{author.new_rkey()}", post("2"))])
    assert len(bench.take(stream, author.frame(3)).events) == 1


def test_frames_of_unknown_accounts_hold_back_no_other_frames(bench: Bench) -> None:
    stream = bench.stream()
    first, second = bench.author(1, known=False), bench.author(2)
    frames = []
    for n in range(6):
        author = first if n % 2 else second
        author.write([("create", f"app.bsky.feed.post/{n}", post(str(n)))])
        frames.append(author.frame(n + 1))
    passed = bench.take(stream, *frames)
    assert [event.seq for event in passed.events] == [1, 3, 5]
    assert passed.marks == {stream.host: 6}
    assert set(passed.lookups) == {first.did}


def test_invalid_commits_are_counted_by_reason(bench: Bench) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("a"))])
    bench.take(stream, author.frame(1))
    author.write([("create", "app.bsky.feed.post/b", post("b"))])
    older = Author(1)
    older.write([("create", "app.bsky.feed.post/z", post("z"))])
    lies: list[tuple[dict[str, Any], DropReason]] = [
        ({"ops": []}, DropReason.PREV_DATA_MISMATCH),
        ({"rev": older.rev}, DropReason.COMMIT_MISMATCH),
        ({"blocks": b"nonsense"}, DropReason.BAD_CAR),
        ({"blocks": b"\0" * 2_000_001}, DropReason.BLOCKS_TOO_LARGE),
    ]
    for seq, (changes, reason) in enumerate(lies, 2):
        passed = bench.take(stream, author.frame(seq, **changes))
        assert passed.events == []
        assert len(passed.drops) == 1, (changes, passed.drops)
        if reason is not DropReason.PREV_DATA_MISMATCH:
            assert reasons(passed) == {reason: 1}
        assert passed.marks == {stream.host: seq}
    assert len(bench.take(stream, author.frame(9)).events) == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"\xa1\x62op\x01",
        encode_frame("#commit", {"seq": 1}) + b"\0",
        encode_frame("#commit", {"seq": 1})[:-1],
        b"\xa0\xa0",
    ],
)
def test_broken_framing_closes_the_stream_before_its_cursor(
    bench: Bench, raw: bytes
) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("a"))])
    bench.take(stream, author.frame(5))
    closed: list[bool] = []
    stream.on_fault = lambda: closed.append(True)
    author.write([("create", "app.bsky.feed.post/b", post("b"))])
    passed = bench.take(stream, raw, author.frame(6))
    assert stream.fault is Fault.BAD_FRAME
    assert closed == [True]
    assert passed.events == [], "nothing behind the broken frame is taken"
    assert passed.marks == {stream.host: 5}
    assert stream.last_seq == 5


def test_unknown_events_are_skipped_and_error_frames_close(bench: Bench) -> None:
    stream = bench.stream()
    passed = bench.take(
        stream,
        encode_frame("#future", {"seq": 3, "x": [1, 2]}),
        encode_frame("#info", {"name": "OutdatedCursor"}),
    )
    assert passed.marks == {stream.host: 3}
    assert passed.outdated == {stream.host}
    assert reasons(passed) == {DropReason.UNKNOWN_EVENT: 1}
    bench.take(stream, encode_error_frame("FutureCursor", "…"))
    assert (stream.fault, stream.detail) == (Fault.ERROR, "FutureCursor")


def test_sequence_numbers_must_rise(bench: Bench) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("a"))])
    stream.resumed_at = stream.last_seq = 7
    passed = bench.take(stream, author.frame(7), author.frame(8))
    assert len(passed.events) == 1
    assert not passed.drops, "the frame at the cursor may come again"
    for seq in (8, 1, 0, -1, 2**53, True):
        passed = bench.take(stream, author.frame(seq))
        assert passed.events == []
        assert reasons(passed) == {DropReason.BAD_SEQ: 1}
    for _ in range(4):
        bench.take(stream, author.frame(2))
    assert stream.fault is Fault.BAD_SEQ
    reset = bench.gate.take([ResetHost(stream.host)]).resets
    assert reset == {stream.host: None}


def test_identity_and_account_events(bench: Bench) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("a"))])
    bench.take(stream, author.frame(1))
    bench.time += 30
    passed = bench.take(
        stream,
        *(identity_frame(author.did, n, "alice.example.com") for n in range(2, 1_002)),
        account_frame(author.did, 1_002, False, "takendown"),
        account_frame(author.did, 1_003, True),
        author.sync_frame(1_004),
    )
    assert passed.identities_to_refresh == {author.did: 0.0}, "ahead of its time"
    kinds = [type(event) for event in passed.events]
    assert kinds == [IdentityEvent] * 1_000 + [AccountEvent] * 2 + [SyncEvent]
    assert passed.events[1_000].status == "takendown"  # type: ignore[union-attr]
    bad = encode_frame("#account", {"seq": 1_005, "did": author.did, "active": 1})
    assert reasons(bench.take(stream, bad)) == {DropReason.BAD_FIELD: 1}


def test_internal_error_quarantines_one_frame(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crawler.live import verify

    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("a"))])
    bench.take(stream, author.frame(1))
    author.write([("create", "app.bsky.feed.post/b", post("b"))])
    raw = author.frame(2)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(verify, "_follow", fail)
        passed = bench.take(stream, raw)
    [aside] = passed.quarantined
    assert (aside.seq, aside.frame) == (2, raw)
    assert passed.to_resync == {author.did}
    assert passed.marks == {stream.host: 2}, "the stream goes on"


def test_only_the_last_word_of_the_scope_counts(bench: Bench) -> None:
    author, other = bench.author(1), bench.author(2)
    with bench.pool.connection() as conn:
        set_scope(conn, ScopeKind.DIDS, seeds=[author.did])
    bench.gate = bench.make_gate()
    stream = bench.stream()
    for one in (author, other):
        one.write([("create", "app.bsky.feed.post/a", post("a"))])
    passed = bench.take(stream, author.frame(1), other.frame(2))
    assert [event.did for event in passed.events] == [author.did]
    assert reasons(passed) == {DropReason.OUT_OF_SCOPE: 1}


def wait_for_locks(pool: Pool, count: int) -> None:
    """Until so many of the others wait for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with psycopg.connect(pool.conninfo, autocommit=True) as watcher:
        for _ in range(1_000):
            row = watcher.execute(waiting).fetchone()
            if row is not None and row[0] >= count:
                return
            time.sleep(0.01)
    raise AssertionError("nobody waits")


def test_admission_and_scope_commands_do_not_deadlock(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    author = bench.author(1)
    with bench.pool.connection() as conn:
        set_scope(conn, ScopeKind.COLLECTION, collections=["app.bsky.feed.post"])
    bench.gate = bench.make_gate()
    stream = bench.stream()
    faults: list[BaseException] = []
    tries: list[int] = []
    threads: list[threading.Thread] = []

    def widen() -> None:
        try:
            with psycopg.connect(bench.pool.conninfo) as conn:
                set_scope(conn, ScopeKind.NETWORK)
        except psycopg.Error as error:
            faults.append(error)

    real = Admission.admit

    def admit(*args: Any, **kwargs: Any) -> None:
        tries.append(1)
        real(*args, **kwargs)
        if not threads:
            threads.append(threading.Thread(target=widen))
            threads[0].start()
            wait_for_locks(bench.pool, 1)

    monkeypatch.setattr(Admission, "admit", admit)
    author.write([("create", "app.bsky.feed.post/a", post("a"))])
    passed = bench.take(stream, author.frame(1))
    threads[0].join(30)
    assert (faults, len(tries)) == ([], 1)
    assert [event.did for event in passed.events] == [author.did]


def test_only_known_fields_of_a_frame_are_rebroadcast(bench: Bench) -> None:
    bench.settings = CrawlSettings(rebroadcast=True)
    bench.gate = bench.make_gate()
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", f"app.bsky.feed.post/{author.new_rkey()}", post("hi"))])
    more = {"more": "x" * 100_000}
    did = author.did
    identity = {"did": did, "time": "2026-01-01T00:00:00Z", "handle": "a.example.com"}
    passed = bench.take(
        stream,
        author.frame(1),
        author.frame(2, **more),
        encode_frame("#identity", identity | {"seq": 3}),
        encode_frame("#identity", identity | {"seq": 4} | more),
        encode_frame("#account", identity | {"seq": 5, "active": True} | more),
    )
    frames = [event.frame for event in passed.events]
    # Events other than commits get a frame of our own.
    assert frames == [
        author.frame(1),
        author.frame(2),
        encode_frame("#identity", identity | {"seq": 3}),
        None,
        None,
    ]
