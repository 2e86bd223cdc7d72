"""Saved searches: the delay from an applied post to its match, and the cost.

Posts are applied at a fixed rate, with and without saved searches, on one core beside
PostgreSQL. The floors are the figures without them: then each post is logged as if one
search had found it.
"""

from __future__ import annotations

import os
import random
import threading
import time
from bisect import bisect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from itertools import accumulate
from typing import Final

from bench.index import Index, LostError, open_index
from bench.metric import Metric, Progress, quantile
from indexer.apply import apply_batch
from indexer.collections.texts import TEXTS
from protocol.data.cbor import encode
from protocol.data.cid import DATA_PREFIX, cid_for
from protocol.events.event import CommitEvent, RecordOp
from protocol.mst import EMPTY_ROOT, build_root
from protocol.syntax import Did, Nsid, RecordKey, Tid, TidClock, tid_to_int
from search.drain import drain_outbox
from search.engines.postgres import PostgresEngine
from search.matches.match_log import append_matches, load_tail, matches_after
from search.matches.match_pass import DrainedRecords, LogMatches
from search.matches.matcher import is_listed
from search.matches.saved_matcher import SavedMatcher, parse_saved
from storage.collections import FEED_POST
from storage.postgres.polling_thread import PollingThread
from storage.postgres.pool import Conn
from storage.private.private_store import PrivateStore
from storage.private.saved_searches import MAX_SEARCHES, save_search
from storage.records.interning import Interner

BENCH: Final = "matches"

_SEARCHES: Final = 10_000
_RATE: Final = 500
_SECONDS: Final = 30
_QUICK: Final = 10
"""Divisor of searches and seconds in a quick run."""
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
class _Texts:
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
class _Writers:
    """Accounts that post in turn; their commits are made beforehand."""

    texts: _Texts
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
class _Run:
    """One run: waits of matches in seconds, and the share of a core that it took."""

    waits: list[float] = field(default_factory=list)
    share: float = 0.0
    matching: float = 0.0
    """Share of a core in the matching alone."""
    drain_s: float = 0.0
    """Seconds in drains, also of waiting for PostgreSQL."""
    matches: int = 0


def run(quick: bool, progress: Progress) -> list[Metric]:
    """Measure the delay of matches and the processor time of the process."""
    part = _QUICK if quick else 1
    searches, count = _SEARCHES // part, _RATE * _SECONDS // part
    texts = _Texts(random.Random(1))
    with open_index() as index, _one_core():
        writers = _Writers(texts)
        bare = _measure(index, [*writers.commits(count, 0)], _log_all)
        progress.count("runs", 1, 2)
        saved = SavedMatcher(PrivateStore(index.pool))
        with index.pool.connection() as conn:
            _save(conn, texts, searches)
        started = time.perf_counter()
        saved.refresh()
        load_s = time.perf_counter() - started
        found = _measure(index, [*writers.commits(count, count)], saved.log_matches)
        progress.count("runs", 2, 2)
        if not found.waits:
            raise LostError("no saved search has found a post")
    return [
        Metric(BENCH, "searches", searches, "searches"),
        Metric(BENCH, "load_s", load_s, "s"),
        Metric(BENCH, "posts_per_s", _RATE, "posts/s"),
        Metric(BENCH, "matches_per_s", found.matches * _RATE / count, "matches/s"),
        *(
            Metric(
                BENCH,
                f"applied_to_matched_p{percent}_s",
                quantile(found.waits, percent / 100),
                "s",
                quantile(bare.waits, percent / 100),
            )
            for percent in (50, 99)
        ),
        Metric(
            BENCH,
            "drain_ms_per_post",
            found.drain_s * 1_000 / count,
            "ms",
            bare.drain_s * 1_000 / count,
        ),
        Metric(BENCH, "core_share", found.share, "cores", bare.share),
        Metric(BENCH, "matching_core_share", found.matching, "cores"),
    ]


def _save(conn: Conn, texts: _Texts, count: int) -> None:
    for number in range(count):
        owner = f"did:plc:{number // MAX_SEARCHES:024d}"
        query = texts.query(number)
        listed = is_listed(parse_saved(query, owner, lambda _: None))
        save_search(
            conn,
            owner,
            query,
            datetime.now(UTC),
            collections=[FEED_POST],
            accounts={},
            listed=listed,
        )


def _measure(
    index: Index, commits: Sequence[CommitEvent], log_matches: LogMatches
) -> _Run:
    """Apply commits at the fixed rate; wait until all are drained and read."""
    result = _Run()
    applied: dict[int, float] = {}
    done = threading.Event()

    def log(conn: Conn, drained: DrainedRecords) -> None:
        begun = time.thread_time()
        log_matches(conn, drained)
        result.matching += time.thread_time() - begun

    reader = threading.Thread(target=_read, args=(index, applied, result, done))
    interner = Interner(index.names)
    step = round(_RATE * _STEP_S)
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
            wait = started + n / _RATE - time.perf_counter()
            time.sleep(max(0.0, wait))
            some = commits[n : n + step]
            with index.pool.connection() as conn:
                apply_batch(conn, interner, some, {}, datetime.now(UTC))
            now = time.perf_counter()
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


def _log_all(conn: Conn, drained: DrainedRecords) -> None:
    append_matches(conn, [(0, document.address) for document in drained.new], _now())


def _now() -> datetime:
    return datetime.now(UTC)


def _read(
    index: Index, applied: dict[int, float], result: _Run, done: threading.Event
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


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep this process on one core; PostgreSQL may use the others."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
