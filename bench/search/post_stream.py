"""Made-up posts that are applied at a fixed rate and drained beside it."""

from __future__ import annotations

import random
import threading
import time
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from itertools import accumulate
from typing import Final

from bench.index import Index, LostError
from indexer.apply import apply_batch
from indexer.collections.texts import TEXTS
from protocol.data.cbor import encode
from protocol.data.cid import DATA_PREFIX, cid_for
from protocol.events.event import CommitEvent, RecordOp
from protocol.mst import EMPTY_ROOT, build_root
from protocol.syntax import Did, Nsid, RecordKey, Tid, TidClock, tid_to_int
from search.drain import drain_outbox
from search.engines.postgres import PostgresEngine
from search.matches.match_log import load_tail, matches_after
from search.matches.match_pass import DrainedRecords, LogMatches
from storage.collections import FEED_POST
from storage.postgres.polling_thread import PollingThread
from storage.postgres.pool import Conn
from storage.records.interning import Interner

RATE: Final = 500
"""Posts a second."""
_STEP_S: Final = 0.1
_BATCH: Final = 500
"""Entries of one drain, as of the crawl."""
_ACCOUNTS: Final = 500
_WORDS: Final = 30_000
_COMMON: Final = 300
"""The most frequent words, which no search has alone."""
_POST_WORDS: Final = 20
_PATIENCE_S: Final = 30.0
_POLL_S: Final = 0.01


@dataclass
class Texts:
    """Words with the frequencies of a language, and posts and queries of them."""

    chance: random.Random
    _weights: list[float] = field(
        default_factory=lambda: [*accumulate(1 / (rank + 3) for rank in range(_WORDS))]
    )

    def word(self, lowest: int = 0) -> str:
        while True:
            drawn = self.chance.random() * self._weights[-1]
            rank = bisect(self._weights, drawn)
            if rank >= lowest:
                return f"w{rank:x}"

    def post(self) -> str:
        return " ".join(self.word() for _ in range(_POST_WORDS))

    def query(self, number: int) -> str:
        a, b, c = self.word(_COMMON), self.word(_COMMON), self.word()
        kinds = (
            f"{a} {c}",
            f'"{c} {a}"',
            f"{a} {b} -{c}",
            f"({a} OR {b}) {c}",
            f"#{a} OR {b} {c}",
            f"{a} {c} lang:en -is:reply",
        )
        return kinds[number % len(kinds)]


@dataclass
class Writers:
    """Accounts that post in turn; their commits are made beforehand."""

    texts: Texts
    clock: TidClock = field(
        default_factory=lambda: TidClock(7, lambda: time.time_ns() // 1_000)
    )
    heads: dict[int, tuple[Tid, bytes]] = field(default_factory=dict)

    def commits(self, count: int, first: int) -> Iterator[CommitEvent]:
        for number in range(first, first + count):
            writer = number % _ACCOUNTS
            did = Did(f"did:plc:{writer:024d}")
            record = encode(
                {
                    "$type": FEED_POST,
                    "text": self.texts.post(),
                    "langs": ["en"],
                    "createdAt": datetime.now(UTC).isoformat(),
                }
            )
            op = RecordOp(
                "create",
                Nsid(FEED_POST),
                RecordKey(self.clock.next()),
                cid_for(record),
                record,
            )
            rev = self.clock.next()
            before, root = self.heads.get(writer, (None, EMPTY_ROOT))
            if before is None:
                assert op.cid is not None
                data = build_root([(f"{op.collection}/{op.rkey}".encode(), op.cid)])
            else:
                # Proven before this step: any root will do.
                data = DATA_PREFIX + sha256(rev.encode()).digest()
            self.heads[writer] = rev, data
            yield CommitEvent(did, rev, before, data, root, b"", [op])


@dataclass
class StreamRun:
    """One run: waits of matches in seconds, and the share of a core that it took."""

    waits: list[float] = field(default_factory=list)
    share: float = 0.0
    matching: float = 0.0
    """Share of a core in the matching alone."""
    matching_s: float = 0.0
    """Seconds in the matching, also of waiting for PostgreSQL, …"""
    drain_s: float = 0.0
    """… in drains, the matching included, …"""
    apply_s: float = 0.0
    """… and in the transactions that apply the posts."""
    matches: int = 0


def stream(
    index: Index, commits: Sequence[CommitEvent], log_matches: LogMatches
) -> StreamRun:
    """Apply commits at the fixed rate; wait until all are drained and read."""
    result = StreamRun()
    applied: dict[int, float] = {}
    done = threading.Event()

    def log(conn: Conn, drained: DrainedRecords) -> None:
        begun, used_before = time.perf_counter(), time.thread_time()
        log_matches(conn, drained)
        result.matching += time.thread_time() - used_before
        result.matching_s += time.perf_counter() - begun

    reader = threading.Thread(target=_read, args=(index, applied, result, done))
    interner = Interner(index.names)
    step = round(RATE * _STEP_S)
    used, started = time.process_time(), time.perf_counter()

    def work() -> bool:
        begun = time.perf_counter()
        with index.pool.connection() as conn:
            drained = drain_outbox(conn, engine, TEXTS, _BATCH, log)
        result.drain_s += time.perf_counter() - begun if drained else 0.0
        return drained > 0

    engine = PostgresEngine(index.pool)
    with PollingThread("search_drain", work, poll_s=_STEP_S) as drain:
        reader.start()
        for n in range(0, len(commits), step):
            wait = started + n / RATE - time.perf_counter()
            time.sleep(max(0.0, wait))
            some = commits[n : n + step]
            begun = time.perf_counter()
            with index.pool.connection() as conn:
                apply_batch(conn, interner, some, {}, datetime.now(UTC))
            now = time.perf_counter()
            result.apply_s += now - begun
            applied.update((_rkey(event), now) for event in some)
            drain.wake()
        end = time.perf_counter() + _PATIENCE_S
        while index.ask("SELECT count(*) FROM search_outbox"):
            if time.perf_counter() > end:
                raise LostError("the drain does not keep up")
            time.sleep(_POLL_S)
    taken = time.perf_counter() - started
    result.share = (time.process_time() - used) / taken
    result.matching /= taken
    done.set()
    reader.join()
    return result


def _read(
    index: Index, applied: dict[int, float], result: StreamRun, done: threading.Event
) -> None:
    with index.pool.connection() as conn:
        position = load_tail(conn)
    is_last = False
    while not is_last:
        is_last = done.is_set()
        with index.pool.connection() as conn:
            matches = matches_after(conn, position, 10_000)
        now = time.perf_counter()
        for match in matches:
            begun = applied.get(match.address.rkey, now)
            result.waits.append(now - begun)
        result.matches += len(matches)
        position = matches[-1].number if matches else position
        time.sleep(_POLL_S)


def _rkey(event: CommitEvent) -> int:
    return tid_to_int(Tid(event.ops[0].rkey))
