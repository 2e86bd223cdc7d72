"""Real frames through the gate: the sending host, and the proof."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from crawl_author import Author, account_frame, identity_frame, post
from crawl_fakes import FakeResolver, FakeSink

from crawler.database import Database
from crawler.hosts.host_name import HostName
from crawler.identities.account_lookups import AccountLookups
from crawler.identities.network_clients import NetworkClients
from crawler.live import gate_frame
from crawler.live.followups import queue_followups
from crawler.live.gate import Gate
from crawler.live.gate_result import GateResult, ResetHost
from crawler.live.stream_state import Arrival, Fault, StreamState
from crawler.scope.admission import IDENTITY_JOB, LOOKUP_JOB, Admission
from crawler.settings import CrawlSettings
from protocol.events.drops import DropReason
from protocol.events.event import AccountEvent, CommitEvent, IdentityEvent, SyncEvent
from protocol.events.frames import encode_error_frame, encode_frame
from storage import jobs
from storage.hosts import host_rows
from storage.postgres.pool import Conn, Pool, open_pool
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
    runs: int = 0
    streams: dict[str, StreamState] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.resolver.pool = self.pool
        self.database = Database(self.pool)
        self.gate = self.make_gate()

    def make_gate(self) -> Gate:
        return Gate(
            self.settings,
            run=self._run,
            clock=lambda: self.time,
            now_us=lambda: NOW_US,
        )

    def _run(self, work: Callable[[Conn], Any]) -> Any:
        self.runs += 1
        return self.database.run(work)

    @property
    def lookups(self) -> int:
        """Return how often the directory was asked."""
        return len(self.resolver.asked)

    def stream(self, name: str = HONEST, **more: Any) -> StreamState:
        if name not in self.streams:
            source = more.pop("source", host_rows.SOURCE_CONFIGURED)
            with self.pool.connection() as conn:
                host, _ = host_rows.put_host(
                    conn,
                    name,
                    f"https://{name}",
                    source=source,
                    relay=more.get("relay", False),
                )
            trusted = source == host_rows.SOURCE_CONFIGURED
            more.setdefault("trusted", trusted)
            self.streams[name] = StreamState(host, HostName(name), **more)
        return self.streams[name]

    def author(
        self,
        number: int,
        host: str = HONEST,
        curve: str = "k256",
        *,
        known: bool = True,
    ) -> Author:
        """Return an account; one that is `known` was resolved before."""
        author = Author(number, curve)
        self.resolver.put(author.did, f"https://{host}", author.did_key)
        if known:
            self.resolver.cache(author.did)
        return author

    def take(self, stream: StreamState, *frames: bytes) -> GateResult:
        """Return the result of frames, whose follow-ups are queued."""
        result = self.gate.take([Arrival(stream, raw) for raw in frames])
        self.database.run(lambda conn: queue_followups(conn, result, cooldown=60.0))
        return result

    def settle(self) -> FakeSink:
        """Do the lookups that are due; return where they wrote."""
        sink = FakeSink()
        clients = NetworkClients(None, self.resolver)  # type: ignore[arg-type]
        lookups = AccountLookups(self.settings, self.database, sink, clients)
        asyncio.run(lookups.run_once(seconds=30))
        # Newly fetched documents are seen a second later.
        self.time += 1.0
        return sink

    def repo(self, author: Author) -> tuple[str, str]:
        """Host and state of an account's repo; empty texts where there is none."""
        with self.pool.connection() as conn:
            row = conn.execute(
                "SELECT hostname, repo.state FROM actor JOIN repo ON actor = actor.id"
                " JOIN host ON host.id = host WHERE did = %s",
                (author.did,),
            ).fetchone()
        return ("", "") if row is None else row

    def jobs(self) -> dict[str, int]:
        with self.pool.connection() as conn:
            return jobs.count_jobs(conn)


@pytest.fixture(scope="module")
def shared_pool(databases: Any) -> Iterator[Pool]:
    """Return one database for all tests of this file; each begins with empty tables."""
    url = databases.make("index")
    with open_pool(url, min=1, max=2) as opened:
        yield opened
    databases.drop(url)


@pytest.fixture
def bench(shared_pool: Pool) -> Bench:
    with shared_pool.connection() as conn:
        conn.execute("TRUNCATE host, actor, repo, job, identity")
    return Bench(shared_pool)


def reasons(passed: GateResult) -> dict[DropReason, int]:
    return {reason: count for (reason, _), count in passed.drops.items()}


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


def test_a_host_cannot_speak_for_the_accounts_of_another(bench: Bench) -> None:
    honest, liar = bench.stream(), bench.stream(OTHER, source="request_crawl")
    known, unknown = bench.author(1), bench.author(2, known=False)
    for author in (known, unknown):
        author.write([("create", "app.bsky.feed.post/a", post("mine"))])
    bench.take(honest, known.frame(1))
    known.write([("create", "app.bsky.feed.post/b", post("forged?"))])
    for n in range(0, 40, 4):
        passed = bench.take(
            liar,
            known.frame(n + 1),
            unknown.frame(n + 2),
            account_frame(known.did, n + 3, False, "deleted"),
            identity_frame(known.did, n + 4),
        )
        assert passed.events == []
        assert passed.to_resync == set()
        bench.settle()
    reason = DropReason.WRONG_HOST
    assert passed.drops.keys() == {(reason, liar.host)}
    # At most one a minute on average, and five ahead of time.
    assert bench.lookups <= 14
    assert bench.repo(known) == (HONEST, "desynchronized")
    assert bench.repo(unknown) == ("", "")


@pytest.mark.parametrize("known", [True, False])
def test_a_relay_of_our_choice_may_forward(bench: Bench, known: bool) -> None:
    relay = bench.stream("relay.example.com", relay=True)
    author = bench.author(1, known=known)
    author.write([("create", "app.bsky.feed.post/a", post("hi"))])
    assert len(bench.take(relay, author.frame(1)).events) == known
    bench.settle()
    assert bench.repo(author)[0] == HONEST
    with bench.pool.connection() as conn:
        host = host_rows.find_hosts(conn, [HONEST])[HONEST]
    assert (host.state, host.source) == (
        host_rows.HOST_RELAYED,
        host_rows.SOURCE_DOCUMENT,
    )


def test_a_migration_is_accepted_after_one_refresh(bench: Bench) -> None:
    old, new = bench.stream(), bench.stream(OTHER)
    author = bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("old home"))])
    bench.take(old, author.frame(1))
    synchronize(bench, author)
    bench.resolver.put(author.did, f"https://{OTHER}", author.did_key)
    author.write([("create", "app.bsky.feed.post/b", post("new home"))])
    passed = bench.take(new, author.frame(1))
    assert reasons(passed) == {DropReason.WRONG_HOST: 1}
    bench.settle()
    assert bench.resolver.asked == [(author.did, True)]
    assert bench.repo(author) == (OTHER, "desynchronized"), (
        "what was dropped is fetched"
    )
    author.write([("create", "app.bsky.feed.post/c", post("new home"))])
    assert len(bench.take(new, author.frame(2)).events) == 1
    # The old host has lost its say.
    passed = bench.take(old, account_frame(author.did, 2, False, "deleted"))
    assert passed.events == []
    assert reasons(passed) == {DropReason.WRONG_HOST: 1}


@pytest.mark.parametrize("frames", [1, 2])
def test_status_sent_before_a_move_is_noticed_is_applied(
    bench: Bench, frames: int
) -> None:
    old, new = bench.stream(), bench.stream(OTHER)
    author = bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("old home"))])
    bench.take(old, author.frame(1))
    bench.resolver.put(author.did, f"https://{OTHER}", author.did_key)
    bench.take(new, account_frame(author.did, 1, False, "deleted"))
    if frames > 1:
        bench.take(new, identity_frame(author.did, 2))
    [event] = bench.settle().events
    assert isinstance(event, AccountEvent)
    assert (event.status, event.host) == ("deleted", new.host)


def test_gate_sees_a_move_that_another_process_noticed(bench: Bench) -> None:
    old, new = bench.stream(), bench.stream(OTHER)
    author = bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("old home"))])
    bench.take(old, author.frame(1))
    bench.resolver.put(author.did, f"https://{OTHER}", author.did_key)
    bench.resolver.cache(author.did)
    # The new host is believed at once, the old one for a second at most.
    author.write([("create", "app.bsky.feed.post/b", post("new home"))])
    assert len(bench.take(new, author.frame(1)).events) == 1
    bench.resolver.put(author.did, f"https://{HONEST}", author.did_key)
    bench.resolver.cache(author.did)
    bench.time += 1.0
    frame = account_frame(author.did, 2, False, "deleted")
    assert reasons(bench.take(new, frame)) == {DropReason.WRONG_HOST: 1}


def synchronize(bench: Bench, *authors: Author) -> None:
    """As if what these authors wrote had been indexed."""
    with bench.pool.connection() as conn:
        conn.execute("UPDATE repo SET state = 'synchronized'")


def test_a_rotated_key_costs_one_refresh_and_one_fetch(bench: Bench) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("old key"))])
    bench.take(stream, author.frame(1))
    synchronize(bench, author)
    author.key = Author(99).key
    bench.resolver.put(author.did, f"https://{HONEST}", author.did_key)
    author.write([("create", "app.bsky.feed.post/b", post("new key"))])
    passed = bench.take(stream, author.frame(2))
    assert reasons(passed) == {DropReason.BAD_SIGNATURE: 1}
    assert passed.marks == {stream.host: 2}
    bench.settle()
    assert bench.resolver.asked == [(author.did, True)]
    assert bench.repo(author)[1] == "desynchronized"
    author.write([("create", "app.bsky.feed.post/c", post("new key"))])
    assert [event.seq for event in bench.take(stream, author.frame(3)).events] == [3]


def test_a_rotated_key_that_is_in_postgres_costs_nothing(bench: Bench) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("old key"))])
    bench.take(stream, author.frame(1))
    author.key = Author(99).key
    bench.resolver.put(author.did, f"https://{HONEST}", author.did_key)
    bench.resolver.cache(author.did)
    author.write([("create", "app.bsky.feed.post/b", post("new key"))])
    assert len(bench.take(stream, author.frame(2)).events) == 1


def test_a_revoked_key_is_believed_for_a_second_at_most(bench: Bench) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("old key"))])
    bench.take(stream, author.frame(1))
    bench.resolver.put(author.did, f"https://{HONEST}", Author(99).did_key)
    bench.resolver.cache(author.did)
    bench.time += 1.0
    author.write([("create", "app.bsky.feed.post/b", post("old key"))])
    passed = bench.take(stream, author.frame(2))
    assert reasons(passed) == {DropReason.BAD_SIGNATURE: 1}


def test_bad_signatures_cannot_make_us_ask_more_than_once_a_minute(
    bench: Bench,
) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("a"))])
    bench.take(stream, author.frame(1))
    author.key = Author(99).key
    now = 0
    for n in range(2, 302):
        bench.time += 1
        author.write([("create", f"app.bsky.feed.post/{n}", post("forged"))])
        passed = bench.take(stream, author.frame(n))
        assert passed.events == []
        assert reasons(passed) == {DropReason.BAD_SIGNATURE: 1}
        now += passed.lookups[author.did].wait == 0.0
    # Five minutes, and five ahead of their time.
    assert now <= 10


def test_one_host_cannot_make_us_refresh_the_keys_of_many(bench: Bench) -> None:
    stream = bench.stream("liar.example.com", source=host_rows.SOURCE_REQUEST_CRAWL)
    authors = [bench.author(n, "liar.example.com") for n in range(40)]
    lookups = 0
    for n, author in enumerate(authors):
        author.write([("create", "app.bsky.feed.post/a", post("a"))])
        assert len(bench.take(stream, author.frame(n + 1)).events) == 1
    for n, author in enumerate(authors):
        author.key = Author(99).key
        author.write([("create", "app.bsky.feed.post/b", post("forged"))])
        passed = bench.take(stream, author.frame(n + 100))
        assert passed.events == []
        # Without a lookup the fetch refreshes the key.
        assert passed.to_resync | set(passed.lookups) == {author.did}
        lookups += len(passed.lookups)
    assert 0 < lookups <= 20


def test_an_outage_of_the_directory_forgets_no_key(bench: Bench) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("a"))])
    bench.take(stream, author.frame(1))
    right, author.key = author.key, Author(99).key
    author.write([("create", "app.bsky.feed.post/b", post("forged"))])
    bench.take(stream, author.frame(2))
    bench.resolver.down = True
    bench.settle()
    assert bench.jobs()[LOOKUP_JOB] == 1, "it is tried again"
    author.key = right
    author.write([("create", "app.bsky.feed.post/c", post("c"))])
    assert len(bench.take(stream, author.frame(3)).events) == 1


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


def test_an_untrusted_host_brings_few_accounts_and_few_lookups(bench: Bench) -> None:
    bench.settings = CrawlSettings(host_accounts_per_day=20)
    bench.gate = bench.make_gate()
    stream = bench.stream(OTHER, source="request_crawl")
    lookups = 0
    frames = []
    template = Author(0)
    template.write([("create", "app.bsky.feed.post/a", post("spam"))])
    for n in range(1, 701):
        if n <= 100:
            author = bench.author(n, OTHER, known=n <= 50)
            author.write([("create", "app.bsky.feed.post/a", post("spam"))])
            frames.append(author.frame(n))
        else:
            did = f"did:plc:{n:a>24}".translate(str.maketrans("0189", "bcde"))
            frames.append(template.frame(n, repo=did))
    for n in range(0, 700, 50):
        passed = bench.take(stream, *frames[n : n + 50])
        lookups += len(passed.lookups)
        bench.settle()
    assert lookups <= 200
    with bench.pool.connection() as conn:
        row = conn.execute("SELECT count(*) FROM actor").fetchone()
    assert row == (20,)


def test_many_unknown_accounts_cost_a_handful_of_transactions(bench: Bench) -> None:
    stream = bench.stream()
    authors = [bench.author(n, f"h{n % 3}.example.com") for n in range(60)]
    frames = [identity_frame(a.did, n) for n, a in enumerate(authors[:30], 1)]
    frames += [identity_frame(f"did:plc:{n:024}", n) for n in range(31, 150)]
    bench.runs = 0
    passed = bench.take(stream, *frames)
    assert sum(passed.drops.values()) == len(passed.lookups) == 149
    assert bench.runs <= 6


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


def test_account_named_by_a_wrong_host_first_is_resolved_for_its_host(
    bench: Bench,
) -> None:
    liar = bench.stream("liar.example.com", source="request_crawl")
    stream = bench.stream(source="request_crawl")
    author = bench.author(1, known=False)
    author.write([("create", "app.bsky.feed.post/a", post("hi"))])
    bench.take(liar, *(identity_frame(author.did, n) for n in range(1, 300)))
    bench.take(stream, author.frame(1))
    with bench.pool.connection() as conn:
        [job] = jobs.claim_jobs(conn, LOOKUP_JOB, limit=9, lease_s=0.0)
    assert set(job.named_by) == {liar.host, stream.host}
    bench.settle()
    assert bench.repo(author) == (HONEST, "desynchronized")


def test_wrong_host_alone_admits_no_account(bench: Bench) -> None:
    liar = bench.stream("liar.example.com", source="request_crawl")
    author = bench.author(1, known=False)
    bench.take(liar, *(identity_frame(author.did, n) for n in range(1, 300)))
    bench.settle()
    assert bench.lookups == 1
    assert bench.repo(author) == ("", "")
    with bench.pool.connection() as conn:
        assert HONEST not in host_rows.find_hosts(conn, [HONEST])


def test_frames_of_a_wrong_host_resync_nothing(bench: Bench) -> None:
    liar = bench.stream("liar.example.com", source="request_crawl")
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("hi"))])
    bench.take(stream, author.frame(1))
    synchronize(bench, author)
    passed = bench.take(liar, *(identity_frame(author.did, n) for n in range(1, 300)))
    assert reasons(passed) == {DropReason.WRONG_HOST: 299}
    bench.settle()
    assert bench.repo(author) == (HONEST, "synchronized")


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
def test_account_over_its_commit_budget_is_throttled(
    bench: Bench, relay: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A tenth of a commit a second: ten at once.
    bench.settings = CrawlSettings(account_commits_per_s=0.1)
    bench.gate = bench.make_gate()
    source = host_rows.SOURCE_CONFIGURED if relay else host_rows.SOURCE_REQUEST_CRAWL
    stream = bench.stream(source=source, relay=relay)
    hot, calm = bench.author(1), bench.author(2)
    bench.take(stream, *writes(hot, range(1, 2)), *writes(calm, range(2, 3)))
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
    assert (passed.throttled, passed.to_resync) == ({hot.did}, set())
    assert passed.has_followups
    assert passed.marks == {stream.host: 33}, "it keeps nobody's cursor waiting"
    assert stream.throttled == 19
    # What an account says of itself is told once, and is not passed over.
    told = [type(event) for event in passed.events if event.did == hot.did]
    assert told[9:] == [IdentityEvent, AccountEvent]
    bench.time += bench.settings.account_cooldown + 10.1
    passed = bench.take(stream, *writes(hot, range(34, 35)))
    assert (reasons(passed), len(passed.events)) == ({}, 1)


def test_accounts_of_configured_hosts_have_no_commit_budget(bench: Bench) -> None:
    bench.settings = CrawlSettings(account_commits_per_s=0.1)
    bench.gate = bench.make_gate()
    stream, author = bench.stream(), bench.author(1)
    passed = bench.take(stream, *writes(author, range(1, 40)))
    assert (reasons(passed), len(passed.events)) == ({}, 39)
