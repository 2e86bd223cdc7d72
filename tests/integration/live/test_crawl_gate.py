"""Who may speak for whom, and what is proven: real frames through the gate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from crawl_author import Author, account_frame, identity_frame, post
from crawl_fakes import FakeResolver

from crawler.database import Database
from crawler.hosts.host_name import HostName
from crawler.live import gate_frame
from crawler.live.gate import Gate
from crawler.live.rounds import LookedUp, Passed, ResetHost
from crawler.live.stream_state import Arrival, Fault, StreamState
from crawler.scope.admission import IDENTITY_JOB, Admission
from crawler.settings import CrawlSettings
from protocol.events.drops import DropReason
from protocol.events.event import (
    AccountEvent,
    CommitEvent,
    IdentityEvent,
    SyncEvent,
)
from protocol.events.frames import encode_error_frame, encode_frame
from protocol.syntax.did import Did
from storage import jobs
from storage.hosts import host_rows
from storage.postgres.pool import Conn, Pool, open_pool
from storage.repos import repo_rows
from storage.repos.scope_rows import ScopeKind, set_scope

HONEST = "honest.example.com"
OTHER = "other.example.com"
NOW_US = 1_800_000_000_000_000


@dataclass
class Bench:
    """A gate with its hosts, its directory, and a clock that the test turns."""

    pool: Pool
    settings: CrawlSettings = field(default_factory=CrawlSettings)
    resolver: FakeResolver = field(default_factory=FakeResolver)
    time: float = 1_000.0
    asked: list[tuple[Did, bool]] = field(default_factory=list)
    asked_for: list[int] = field(default_factory=list)
    lookups: int = 0
    runs: int = 0
    streams: dict[str, StreamState] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.database = Database(self.pool)
        self.gate = self.make_gate()

    def make_gate(self) -> Gate:
        return Gate(
            self.settings,
            run=self._run,
            look_up=self._look_up,
            clock=lambda: self.time,
            now_us=lambda: NOW_US,
        )

    def _look_up(self, did: Did, refresh: bool, host: int) -> None:
        self.asked.append((did, refresh))
        self.asked_for.append(host)

    def _run(self, work: Callable[[Conn], Any]) -> Any:
        self.runs += 1
        return self.database.run(work)

    def stream(self, name: str = HONEST, **more: Any) -> StreamState:
        if name not in self.streams:
            source = more.pop("source", host_rows.SOURCE_CONFIGURED)
            with self.pool.connection() as conn:
                host, _ = host_rows.put_host(
                    conn, name, f"https://{name}", source=source
                )
            trusted = source == host_rows.SOURCE_CONFIGURED
            more.setdefault("trusted", trusted)
            self.streams[name] = StreamState(host, HostName(name), **more)
        return self.streams[name]

    def author(self, number: int, host: str = HONEST, curve: str = "k256") -> Author:
        author = Author(number, curve)
        self.resolver.put(author.did, f"https://{host}", author.did_key)
        return author

    def take(self, stream: StreamState, *frames: bytes) -> Passed:
        return self.gate.take([Arrival(stream, raw) for raw in frames])

    def answer(self) -> Passed:
        """Answer what was asked, from the directory."""
        asked, self.asked = self.asked, []
        self.lookups += len(asked)
        answers = [LookedUp(did, self.resolver.documents.get(did)) for did, _ in asked]
        return self.gate.take([], answers)

    def run(self, stream: StreamState, *frames: bytes) -> Passed:
        """Take frames, and answer until nothing waits."""
        passed = self.take(stream, *frames)
        while self.asked:
            later = self.answer()
            passed.events += later.events
            passed.marks |= later.marks
            passed.drops += later.drops
            passed.distrusted |= later.distrusted
        return passed


@pytest.fixture(scope="module")
def shared_pool(databases: Any) -> Iterator[Pool]:
    """One database for all tests of this file; each begins with empty tables."""
    url = databases.make("index")
    with open_pool(url, min=1, max=2) as opened:
        yield opened
    databases.drop(url)


@pytest.fixture
def bench(shared_pool: Pool) -> Bench:
    with shared_pool.connection() as conn:
        conn.execute("TRUNCATE host, actor, repo, job, identity")
    return Bench(shared_pool)


def reasons(passed: Passed) -> dict[DropReason, int]:
    return {reason: count for (reason, _), count in passed.drops.items()}


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_a_proven_commit_of_a_new_account_passes(bench: Bench, curve: str) -> None:
    stream, author = bench.stream(), bench.author(1, curve=curve)
    author.write([("create", f"app.bsky.feed.post/{author.new_rkey()}", post("hi"))])
    passed = bench.take(stream, author.frame(1))
    assert passed.events == []
    assert passed.marks == {}, "the cursor waits with the frame"
    assert bench.asked == [(author.did, False)]
    passed = bench.answer()
    [event] = passed.events
    assert isinstance(event, CommitEvent)
    assert (event.did, event.host, event.seq) == (author.did, stream.host, 1)
    assert passed.marks == {stream.host: 1}
    with bench.pool.connection() as conn:
        assert repo_rows.find_repos(conn, [author.did])[author.did].host == stream.host
        assert jobs.count_jobs(conn) == {IDENTITY_JOB: 1}
    # Known from now on, also to a process that starts afresh.
    author.write([("create", f"app.bsky.feed.post/{author.new_rkey()}", post("2"))])
    assert len(bench.take(stream, author.frame(2)).events) == 1


def test_frames_of_one_account_keep_their_order_while_others_pass(
    bench: Bench,
) -> None:
    stream = bench.stream()
    first, second = bench.author(1), bench.author(2)
    second.write([("create", "app.bsky.feed.post/a", post("0"))])
    bench.run(stream, second.frame(1))
    frames = []
    for n in range(6):
        author = first if n % 2 else second
        author.write([("create", f"app.bsky.feed.post/{n}", post(str(n)))])
        frames.append(author.frame(n + 2))
    passed = bench.take(stream, *frames)
    assert [event.seq for event in passed.events] == [2, 4, 6]
    assert passed.marks == {stream.host: 2}, "below the first frame that waits"
    passed = bench.answer()
    assert [event.seq for event in passed.events] == [3, 5, 7]
    assert passed.marks == {stream.host: 7}


def test_a_host_cannot_speak_for_the_accounts_of_another(bench: Bench) -> None:
    honest, liar = bench.stream(), bench.stream(OTHER, source="request_crawl")
    known, unknown = bench.author(1), bench.author(2)
    for author in (known, unknown):
        author.write([("create", "app.bsky.feed.post/a", post("mine"))])
    bench.run(honest, known.frame(1))
    known.write([("create", "app.bsky.feed.post/b", post("forged?"))])
    frames = []
    for n in range(0, 40, 4):
        frames += [
            known.frame(n + 1),
            unknown.frame(n + 2),
            account_frame(known.did, n + 3, False, "deleted"),
            identity_frame(known.did, n + 4),
        ]
    passed = bench.run(liar, *frames)
    assert passed.events == []
    assert reasons(passed) == {DropReason.WRONG_HOST: 40}
    # The known one was just looked up; the other is, once, however often it is named.
    assert bench.lookups == 2
    with bench.pool.connection() as conn:
        found = repo_rows.find_repos(conn, [known.did, unknown.did])
        assert set(found) == {known.did}
        assert found[known.did].host == honest.host


def test_a_relay_of_our_choice_may_forward(bench: Bench) -> None:
    relay = bench.stream("relay.example.com", relay=True)
    author = bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("hi"))])
    assert len(bench.run(relay, author.frame(1)).events) == 1
    with bench.pool.connection() as conn:
        host = host_rows.find_hosts(conn, [HONEST])[HONEST]
        assert repo_rows.find_repos(conn, [author.did])[author.did].host == host.id
    assert (host.state, host.source) == (
        host_rows.HOST_RELAYED,
        host_rows.SOURCE_DOCUMENT,
    )


def test_a_migration_is_accepted_after_one_refresh(bench: Bench) -> None:
    old, new = bench.stream(), bench.stream(OTHER)
    author = bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("old home"))])
    bench.run(old, author.frame(1))
    bench.time += 61
    bench.resolver.put(author.did, f"https://{OTHER}", author.did_key)
    author.write([("create", "app.bsky.feed.post/b", post("new home"))])
    passed = bench.take(new, author.frame(1))
    assert bench.asked == [(author.did, True)]
    passed = bench.answer()
    assert len(passed.events) == 1
    with bench.pool.connection() as conn:
        assert repo_rows.find_repos(conn, [author.did])[author.did].host == new.host
    # The old host has lost its say.
    passed = bench.run(old, account_frame(author.did, 2, False, "deleted"))
    assert passed.events == []
    assert reasons(passed) == {DropReason.WRONG_HOST: 1}


def test_a_rotated_key_costs_one_refresh_and_no_commit(bench: Bench) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("old key"))])
    bench.run(stream, author.frame(1))
    bench.time += 61
    author.key = Author(99).key
    bench.resolver.put(author.did, f"https://{HONEST}", author.did_key)
    author.write([("create", "app.bsky.feed.post/b", post("new key"))])
    second = author.frame(2)
    author.write([("create", "app.bsky.feed.post/c", post("new key"))])
    passed = bench.take(stream, second, author.frame(3))
    assert passed.marks == {stream.host: 1}
    assert bench.asked == [(author.did, True)]
    assert [event.seq for event in bench.answer().events] == [2, 3]


def test_bad_signatures_cannot_make_us_ask_more_than_once_a_minute(
    bench: Bench,
) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("a"))])
    bench.run(stream, author.frame(1))
    author.key = Author(99).key
    asked = 0
    for n in range(2, 302):
        bench.time += 1
        author.write([("create", f"app.bsky.feed.post/{n}", post("forged"))])
        passed = bench.take(stream, author.frame(n))
        asked += len(bench.asked)
        assert passed.events == []
        if bench.asked:
            passed = bench.answer()
        assert reasons(passed) == {DropReason.BAD_SIGNATURE: 1}
    assert asked <= 6  # five minutes, and one look ahead of its time


def test_a_key_rotated_right_after_a_look_is_seen_and_costs_no_commit(
    bench: Bench,
) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("old key"))])
    bench.run(stream, author.frame(1))
    bench.time += 1
    author.key = Author(99).key
    bench.resolver.put(author.did, f"https://{HONEST}", author.did_key)
    author.write([("create", "app.bsky.feed.post/b", post("new key"))])
    passed = bench.run(stream, author.frame(2))
    assert [event.seq for event in passed.events] == [2]
    assert bench.lookups == 2
    # The next doubt waits for its turn: a minute after the next look was due.
    bench.time += 1
    author.key = Author(98).key
    author.write([("create", "app.bsky.feed.post/c", post("forged"))])
    assert reasons(bench.take(stream, author.frame(3))) == {DropReason.BAD_SIGNATURE: 1}
    assert bench.asked == []


def test_one_host_cannot_make_us_doubt_the_keys_of_many(bench: Bench) -> None:
    bench.settings = CrawlSettings(host_accounts_per_day=1_000)
    bench.gate = bench.make_gate()
    stream = bench.stream("liar.example.com", source=host_rows.SOURCE_REQUEST_CRAWL)
    authors = [bench.author(n, "liar.example.com") for n in range(40)]
    for n, author in enumerate(authors):
        author.write([("create", "app.bsky.feed.post/a", post("a"))])
        bench.run(stream, author.frame(n + 1))
    bench.lookups = 0
    for n, author in enumerate(authors):
        author.key = Author(99).key
        author.write([("create", "app.bsky.feed.post/b", post("forged"))])
        passed = bench.run(stream, author.frame(n + 100))
        assert passed.events == []
    assert 0 < bench.lookups <= 20


def test_an_outage_of_the_directory_forgets_no_key(bench: Bench) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("a"))])
    bench.run(stream, author.frame(1))
    bench.time += 61
    right, author.key = author.key, Author(99).key
    author.write([("create", "app.bsky.feed.post/b", post("forged"))])
    bench.take(stream, author.frame(2))
    bench.gate.take([], [LookedUp(author.did, None, failed=True)])
    author.key = right
    author.write([("create", "app.bsky.feed.post/c", post("c"))])
    assert len(bench.take(stream, author.frame(3)).events) == 1


def test_lies_about_the_commit_are_counted_by_reason(bench: Bench) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("a"))])
    bench.run(stream, author.frame(1))
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
    bench.run(stream, author.frame(5))
    closed: list[bool] = []
    stream.on_fault = lambda: closed.append(True)
    author.write([("create", "app.bsky.feed.post/b", post("b"))])
    passed = bench.take(stream, raw, author.frame(6))
    assert stream.fault is Fault.BAD_FRAME
    assert closed == [True]
    assert passed.events == [], "nothing behind the broken frame is taken"
    assert passed.marks == {stream.host: 5}
    assert stream.last_seq == 5


def test_unknown_events_are_passed_over_and_errors_close(bench: Bench) -> None:
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
    passed = bench.run(stream, author.frame(7), author.frame(8))
    assert len(passed.events) == 1
    assert not passed.drops, "the frame at the cursor may come again"
    for seq in (8, 1, 0, -1, 2**53, True):
        passed = bench.take(stream, author.frame(seq))
        assert passed.events == []
        assert reasons(passed) == {DropReason.BAD_SEQ: 1}
    for _ in range(4):
        bench.take(stream, author.frame(2))
    assert stream.fault is Fault.BAD_SEQ
    reset = bench.gate.take([], [], [ResetHost(stream.host)]).resets
    assert reset == {stream.host: None}


def test_identity_and_account_events(bench: Bench) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("a"))])
    bench.run(stream, author.frame(1))
    bench.time += 30
    passed = bench.take(
        stream,
        *(identity_frame(author.did, n, "alice.example.com") for n in range(2, 1_002)),
        account_frame(author.did, 1_002, False, "takendown"),
        account_frame(author.did, 1_003, True),
        author.sync_frame(1_004),
    )
    assert passed.identities == {author.did: 0.0}, "one look-up, ahead of its time"
    kinds = [type(event) for event in passed.events]
    assert kinds == [IdentityEvent] * 1_000 + [AccountEvent] * 2 + [SyncEvent]
    assert passed.events[1_000].status == "takendown"  # type: ignore[union-attr]
    bad = encode_frame("#account", {"seq": 1_005, "did": author.did, "active": 1})
    assert reasons(bench.take(stream, bad)) == {DropReason.BAD_FIELD: 1}


def test_a_tombstoned_account_is_deleted(bench: Bench) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("a"))])
    bench.run(stream, author.frame(1))
    [event] = bench.gate.take([], [LookedUp(author.did, None, gone=True)]).events
    assert event == AccountEvent(author.did, False, "deleted")


def test_a_strangers_host_brings_few_accounts_and_few_lookups(bench: Bench) -> None:
    bench.settings = CrawlSettings(host_accounts_per_day=20)
    bench.gate = bench.make_gate()
    stream = bench.stream(OTHER, source="request_crawl")
    events = lookups = 0
    template = Author(0)
    template.write([("create", "app.bsky.feed.post/a", post("spam"))])
    for n in range(1, 701):
        did = (
            Author(n).did
            if n <= 100
            else f"did:plc:{n:a>24}".translate(str.maketrans("0189", "bcde"))
        )
        if n <= 100:
            author = bench.author(n, OTHER)
            author.write([("create", "app.bsky.feed.post/a", post("spam"))])
            frame = author.frame(n)
        else:
            frame = template.frame(n, repo=did)
        passed = bench.take(stream, frame)
        lookups += len(bench.asked)
        events += len(passed.events)
        events += len(bench.answer().events) if bench.asked else 0
    assert events == 20
    assert lookups <= 30
    with bench.pool.connection() as conn:
        row = conn.execute("SELECT count(*) FROM actor").fetchone()
    assert row == (20,)


def test_who_names_many_strangers_keeps_nobody_waiting(bench: Bench) -> None:
    """However many answers come at once, they cost a handful of transactions."""
    stream = bench.stream()
    authors = [bench.author(n, f"h{n % 3}.example.com") for n in range(60)]
    frames = [identity_frame(a.did, n) for n, a in enumerate(authors[:30], 1)]
    frames += [identity_frame(f"did:plc:{n:024}", n) for n in range(31, 150)]
    bench.take(stream, *frames)
    assert len(bench.asked) == 149
    bench.runs = 0
    passed = bench.answer()
    assert sum(passed.drops.values()) == 149
    assert bench.runs <= 6


def test_our_own_fault_sets_one_frame_aside(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crawler.live import verify

    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("a"))])
    bench.run(stream, author.frame(1))
    author.write([("create", "app.bsky.feed.post/b", post("b"))])
    raw = author.frame(2)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(verify, "_follow", fail)
        passed = bench.take(stream, raw)
    [aside] = passed.set_aside
    assert (aside.seq, aside.frame) == (2, raw)
    assert passed.distrusted == {author.did}
    assert passed.marks == {stream.host: 2}, "the stream goes on"


def test_too_many_waiting_frames_are_given_up_not_piled_up(bench: Bench) -> None:
    bench.settings = CrawlSettings(parked_frames_per_did=5, parked_dids=2)
    bench.gate = bench.make_gate()
    stream, author = bench.stream(), bench.author(1)
    frames = []
    for n in range(1, 9):
        author.write([("create", f"app.bsky.feed.post/{n}", post("a"))])
        frames.append(author.frame(n))
    passed = bench.take(stream, *frames)
    assert reasons(passed) == {DropReason.UNRESOLVED_IDENTITY: 3}
    assert passed.distrusted == {author.did}
    assert not bench.gate.full
    other = bench.author(2)
    other.write([("create", "app.bsky.feed.post/a", post("a"))])
    bench.take(stream, other.frame(9))
    assert bench.gate.full
    assert [event.seq for event in bench.answer().events] == [1, 2, 3, 4, 5, 9]
    assert not bench.gate.full


def test_whoever_names_whom_nobody_answers_for_stops_nobody_else(
    bench: Bench,
) -> None:
    for n in range(25):
        liar = bench.stream(f"liar{n}.example.com", source="request_crawl")
        named = [f"did:web:a{m}.b{n}.example.com" for m in range(220)]
        frames = [identity_frame(did, m) for m, did in enumerate(named, 1)]
        bench.take(liar, *frames[:200])
        # One a second more would be looked up, were the others not waiting.
        bench.time += 300
        passed = bench.take(liar, *frames[200:])
        assert reasons(passed) == {DropReason.HOST_BUDGET: 20}
    assert bench.gate.waiting == 25 * 200
    assert not bench.gate.full
    bench.asked.clear()
    stream, author = bench.stream(source="request_crawl"), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("hi"))])
    assert len(bench.run(stream, author.frame(1)).events) == 1


def test_large_frames_that_wait_cost_their_own_host(bench: Bench) -> None:
    stream, author = bench.stream(source="request_crawl"), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("hi"))])
    bench.take(stream, author.frame(1))
    for n in range(8):
        liar = bench.stream(f"liar{n % 2}.example.com", source="request_crawl")
        body = {"repo": f"did:web:b{n}.example.com", "x": "x" * 4_900_000}
        passed = bench.take(liar, encode_frame("#commit", body | {"seq": n + 1}))
        assert reasons(passed) == ({} if n < 3 else {DropReason.HOST_BUDGET: 1})
        assert not bench.gate.full
    assert [event.seq for event in bench.answer().events] == [1]


def test_what_a_liar_asked_first_is_asked_for_its_host_too(bench: Bench) -> None:
    liar = bench.stream("liar.example.com", source="request_crawl")
    stream, author = bench.stream(source="request_crawl"), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("hi"))])
    # As many as wait of one account, so that none of its host's would find a place.
    bench.take(liar, *(identity_frame(author.did, n) for n in range(1, 300)))
    assert bench.asked_for == [liar.host]
    passed = bench.take(stream, author.frame(1))
    assert bench.asked_for == [liar.host, stream.host]
    assert passed.drops == {}
    assert passed.distrusted == set()
    passed = bench.answer()
    assert [event.host for event in passed.events] == [stream.host]
    assert reasons(passed)[DropReason.WRONG_HOST] == 200


def test_frames_given_up_bring_no_doubt_on_the_account_of_another_host(
    bench: Bench,
) -> None:
    liar = bench.stream("liar.example.com", source="request_crawl")
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("hi"))])
    bench.run(stream, author.frame(1))
    bench.time += 61
    passed = bench.take(liar, *(identity_frame(author.did, n) for n in range(1, 300)))
    assert reasons(passed) == {DropReason.UNRESOLVED_IDENTITY: 99}
    assert passed.distrusted == set()


def test_documents_are_loaded_from_the_cache_of_another_process(bench: Bench) -> None:
    from storage.repos import identities

    stream, author = bench.stream(), bench.author(1)
    document = {
        "id": author.did,
        "verificationMethod": [
            {
                "id": f"{author.did}#atproto",
                "type": "Multikey",
                "controller": author.did,
                "publicKeyMultibase": author.did_key.removeprefix("did:key:"),
            }
        ],
        "service": [
            {
                "id": "#atproto_pds",
                "type": "AtprotoPersonalDataServer",
                "serviceEndpoint": f"https://{HONEST}",
            }
        ],
    }
    with bench.pool.connection() as conn:
        identities.save_document(conn, author.did, document, None, 1_700_000_000.0)
    author.write([("create", "app.bsky.feed.post/a", post("a"))])
    assert len(bench.take(stream, author.frame(1)).events) == 1
    assert bench.asked == []


def test_only_the_last_word_of_the_scope_counts(bench: Bench) -> None:
    author, other = bench.author(1), bench.author(2)
    with bench.pool.connection() as conn:
        set_scope(conn, ScopeKind.DIDS, seeds=[author.did])
    bench.gate = bench.make_gate()
    stream = bench.stream()
    for one in (author, other):
        one.write([("create", "app.bsky.feed.post/a", post("a"))])
    passed = bench.run(stream, author.frame(1), other.frame(2))
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


def test_who_is_let_in_and_who_sets_the_scope_do_not_wait_for_each_other(
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
    passed = bench.run(stream, author.frame(1))
    threads[0].join(30)
    assert (faults, len(tries)) == ([], 1)
    assert [event.did for event in passed.events] == [author.did]


def test_only_what_is_known_of_a_frame_is_sent_on(bench: Bench) -> None:
    bench.settings = CrawlSettings(rebroadcast=True)
    bench.gate = bench.make_gate()
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", f"app.bsky.feed.post/{author.new_rkey()}", post("hi"))])
    more = {"more": "x" * 100_000}
    did = author.did
    identity = {"did": did, "time": "2026-01-01T00:00:00Z", "handle": "a.example.com"}
    passed = bench.run(
        stream,
        author.frame(1),
        author.frame(2, **more),
        encode_frame("#identity", identity | {"seq": 3}),
        encode_frame("#identity", identity | {"seq": 4} | more),
        encode_frame("#account", identity | {"seq": 5, "active": True} | more),
    )
    frames = [event.frame for event in passed.events]
    # What is no commit is told of in a frame of our own.
    assert frames == [
        author.frame(1),
        author.frame(2),
        encode_frame("#identity", identity | {"seq": 3}),
        None,
        None,
    ]


def writes(author: Author, seqs: range) -> list[bytes]:
    frames = []
    for seq in seqs:
        path = f"app.bsky.feed.post/{author.new_rkey()}"
        author.write([("create", path, post(str(seq)))])
        frames.append(author.frame(seq))
    return frames


@pytest.mark.parametrize("relay", [False, True])
def test_an_account_that_writes_too_much_is_left_alone(
    bench: Bench, relay: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A tenth of a commit a second: ten at once.
    bench.settings = CrawlSettings(account_commits_per_s=0.1)
    bench.gate = bench.make_gate()
    source = host_rows.SOURCE_CONFIGURED if relay else host_rows.SOURCE_REQUEST_CRAWL
    stream = bench.stream(source=source, relay=relay)
    hot, calm = bench.author(1), bench.author(2)
    # First commits wait for a look-up.
    bench.run(stream, *writes(hot, range(1, 2)), *writes(calm, range(2, 3)))
    proven: list[str] = []
    real = gate_frame.verify.verify_commits

    def verify_commits(messages: Any, now_us: int) -> Any:
        proven.extend(body["repo"] for body, _, _ in messages)
        return real(messages, now_us)

    monkeypatch.setattr(gate_frame.verify, "verify_commits", verify_commits)
    passed = bench.take(
        stream,
        *writes(hot, range(3, 30)),
        *writes(calm, range(30, 31)),
        hot.sync_frame(31),
        identity_frame(hot.did, 32),
        account_frame(hot.did, 33, True),
    )
    assert proven == [hot.did] * 9 + [calm.did]
    assert reasons(passed) == {DropReason.THROTTLED: 19}
    assert (passed.throttled, passed.distrusted) == ({hot.did}, set())
    assert passed.doubts
    assert passed.marks == {stream.host: 33}, "it keeps nobody's cursor waiting"
    assert stream.throttled == 19
    # What an account says of itself is told once, and is not passed over.
    told = [type(event) for event in passed.events if event.did == hot.did]
    assert told[9:] == [IdentityEvent, AccountEvent]
    bench.time += bench.settings.account_calm + 10.1
    passed = bench.take(stream, *writes(hot, range(34, 35)))
    assert (reasons(passed), len(passed.events)) == ({}, 1)


def test_accounts_of_a_host_of_our_own_write_what_they_like(bench: Bench) -> None:
    bench.settings = CrawlSettings(account_commits_per_s=0.1)
    bench.gate = bench.make_gate()
    stream, author = bench.stream(), bench.author(1)
    passed = bench.run(stream, *writes(author, range(1, 40)))
    assert (reasons(passed), len(passed.events)) == ({}, 39)
