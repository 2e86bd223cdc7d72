"""Latency of search, typeahead and feeds over HTTP, and freshness of posts."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from bench.child import open_child
from bench.fake_accounts import FakeAccounts
from bench.freshness import (
    SEARCH_POSTS,
    ingesting,
    live_host,
    measure_freshness,
)
from bench.index import Index, import_repos, open_index
from bench.metric import Metric, Progress, quantile
from bench.provider import make_provider, provider_did
from bench.request import BusyError, connect, get, target
from bench.stored import fill
from bench.views.stored_views import complete
from bench.views.view_loads import Loads, measure_views
from indexer.collections.texts import TEXTS
from search.drain import drain_outbox
from search.engines.postgres import PostgresEngine

BENCH: Final = "serve"

_ACCOUNTS: Final = 250
_RECORDS: Final = 240
_REQUESTS: Final = 400
_POSTS: Final = 40
_QUICK: Final = 25
"""Divisor of all sizes in a quick run."""
_STORED: Final = 25_000
"""Stored posts of ten records in sixty, besides those of the fake repos."""
_A_REPO: Final = 60
_VIEWERS: Final = 10
_COMMITS_PER_S: Final = 20.0
_CLIENTS: Final = 2
_WARM_UP: Final = 20
_DRAIN_BATCH: Final = 2_000

_TYPEAHEAD: Final = "app.bsky.actor.searchActorsTypeahead"
_GET_FEED: Final = "app.bsky.feed.getFeed"
_GENERATOR: Final = "app.bsky.feed.generator"
_HEALTH: Final = "_health"
_TERMS: Final = (
    *("python", "weather garden", "good morning", "music", "coffee cat", "firehose"),
    *("train OR river", '"good morning"', "very bread", "とても", "schön", "news -cat"),
)

Params = dict[str, Any]
Timed = tuple[list[float], float]
"""Seconds of each request, and of all together."""


def run(quick: bool, progress: Progress, posts: int = 0) -> list[Metric]:
    """Measure requests of a few clients to a provider with an index of fake repos.

    The views of ten methods are read from `posts` more posts, of a tenth as many
    accounts, while commits arrive.
    """
    part = _QUICK if quick else 1
    stored_posts = posts or _STORED // part
    fakes = FakeAccounts(max(10, _ACCOUNTS // part), records=_RECORDS)
    with (
        tempfile.TemporaryDirectory(prefix="bw-home-") as folder,
        open_index() as index,
    ):
        import_repos(index, fakes, progress)
        _fill_engine(index, progress)
        stored = fill(index, stored_posts * _A_REPO // 10, progress, a_repo=_A_REPO)
        viewers = fakes.members[:_VIEWERS]
        complete(index, stored, viewers, progress)
        index.settle()
        home = Path(folder)
        did = provider_did(home)
        feed = f"at://{did}/{_GENERATOR}/popular"
        loads = Loads(index, stored, viewers, did, feed, _TERMS)
        requests = max(_WARM_UP, _REQUESTS // part)
        with open_child(make_provider, home, index.url) as url:
            metrics = _ask(url, home, requests, progress)
            with live_host(index, fakes) as send:
                with ingesting(send, fakes, _COMMITS_PER_S):
                    metrics += measure_views(url, loads, requests, progress)
                waits = measure_freshness(
                    send, fakes, url, max(2, _POSTS // part), progress
                )
    return [
        *metrics,
        Metric(BENCH, "freshness_p50_ms", quantile(waits, 0.5) * 1e3, "ms"),
        Metric(BENCH, "freshness_p99_ms", quantile(waits, 0.99) * 1e3, "ms"),
    ]


def _fill_engine(index: Index, progress: Progress) -> None:
    """Drain the search outbox."""
    engine = PostgresEngine(index.pool)
    total = index.ask("SELECT count(*) FROM search_outbox")
    done = 0
    while done < total:
        with index.pool.connection() as conn:
            done += drain_outbox(conn, engine, TEXTS, _DRAIN_BATCH)
        progress.count("documents", min(done, total), total)


def _ask(url: str, home: Path, requests: int, progress: Progress) -> list[Metric]:
    rng = random.Random(1)
    feed = f"at://{provider_did(home)}/{_GENERATOR}/popular"
    loads: dict[str, tuple[str, Callable[[], Params]]] = {
        "health": (_HEALTH, dict),
        "search_recent": (
            SEARCH_POSTS,
            lambda: {"q": rng.choice(_TERMS), "sort": "latest", "limit": 25},
        ),
        "search_top": (
            SEARCH_POSTS,
            lambda: {"q": rng.choice(_TERMS), "sort": "top", "limit": 25},
        ),
        "typeahead": (
            _TYPEAHEAD,
            lambda: {"q": f"member{rng.randrange(25)}"[: rng.randrange(2, 9)]},
        ),
        "feed": (_GET_FEED, lambda: {"feed": feed, "limit": 30}),
    }
    timed: dict[str, Timed] = {}
    for done, (name, (nsid, params)) in enumerate(loads.items(), 1):
        targets = [target(nsid, params()) for _ in range(requests)]
        _send(url, targets[:_WARM_UP])
        timed[name] = _send(url, targets)
        progress.count("loads", done, len(loads))
    floor = timed.pop("health")[0]
    metrics: list[Metric] = []
    for name, (seconds, whole) in timed.items():
        for share, label in ((0.5, "p50"), (0.99, "p99")):
            metrics.append(
                Metric(
                    BENCH,
                    f"{name}_{label}_ms",
                    quantile(seconds, share) * 1e3,
                    "ms",
                    quantile(floor, share) * 1e3,
                )
            )
        rate = len(seconds) / whole
        metrics.append(Metric(BENCH, f"{name}_per_s", rate, "requests/s"))
    return metrics


def _send(url: str, targets: Sequence[str]) -> Timed:
    """Send requests over a few connections, sequentially on each.

    One that is refused because the search takes too long counts with its time.
    """
    started = time.perf_counter()
    with ThreadPoolExecutor(_CLIENTS) as threads:
        parts = threads.map(
            lambda n: _send_all(url, targets[n::_CLIENTS]), range(_CLIENTS)
        )
        seconds = [one for part in parts for one in part]
    return seconds, time.perf_counter() - started


def _send_all(url: str, targets: Sequence[str]) -> list[float]:
    seconds: list[float] = []
    with closing(connect(url)) as connection:
        for one in targets:
            started = time.perf_counter()
            with suppress(BusyError):
                get(connection, one)
            seconds.append(time.perf_counter() - started)
    return seconds
