"""Saved searches: the delay from an applied post to its match, and the cost.

Posts are applied at a fixed rate, with and without saved searches, on one core beside
PostgreSQL. The floors are the figures without them: then each post is logged as if one
search had found it.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from bench.index import LostError, open_index
from bench.metric import Metric, Progress, quantile
from bench.search.post_stream import RATE, Texts, Writers, stream
from search.matches.match_log import append_matches
from search.matches.match_pass import DrainedRecords
from search.matches.matcher import is_listed
from search.matches.saved_matcher import SavedMatcher, parse_saved
from storage.collections import FEED_POST
from storage.postgres.pool import Conn
from storage.private.private_store import PrivateStore
from storage.private.saved_searches import MAX_SEARCHES, save_search

BENCH: Final = "matches"

_SEARCHES: Final = 10_000
_SECONDS: Final = 30
_QUICK: Final = 10
"""Divisor of searches and seconds in a quick run."""


def run(quick: bool, progress: Progress) -> list[Metric]:
    """Measure the delay of matches and the processor time of the process."""
    part = _QUICK if quick else 1
    searches, count = _SEARCHES // part, RATE * _SECONDS // part
    texts = Texts(random.Random(1))
    with open_index() as index, _one_core():
        writers = Writers(texts)
        bare = stream(index, [*writers.commits(count, 0)], _log_all)
        progress.count("runs", 1, 2)
        saved = SavedMatcher(PrivateStore(index.pool))
        with index.pool.connection() as conn:
            _save(conn, texts, searches)
        started = time.perf_counter()
        saved.refresh()
        load_s = time.perf_counter() - started
        found = stream(index, [*writers.commits(count, count)], saved.log_matches)
        progress.count("runs", 2, 2)
        if not found.waits:
            raise LostError("no saved search has found a post")
    return [
        Metric(BENCH, "searches", searches, "searches"),
        Metric(BENCH, "load_s", load_s, "s"),
        Metric(BENCH, "posts_per_s", RATE, "posts/s"),
        Metric(BENCH, "matches_per_s", found.matches * RATE / count, "matches/s"),
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


def _save(conn: Conn, texts: Texts, count: int) -> None:
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


def _log_all(conn: Conn, drained: DrainedRecords) -> None:
    append_matches(
        conn, [(0, document.address) for document in drained.new], datetime.now(UTC)
    )


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep this process on one core; PostgreSQL may use the others."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
