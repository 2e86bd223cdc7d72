"""Ten methods of the read side over HTTP, each beside as many empty requests."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from itertools import chain
from typing import Any, Final

import psutil

from bench.fake_accounts import POST, Member
from bench.index import Index, LostError
from bench.metric import Metric, Progress, quantile
from bench.request import BusyError, connect, get, target
from bench.stored import Stored, did_of
from protocol.identity.service_auth import create_service_jwt
from protocol.syntax import Nsid, tid_from_int

_CLIENTS: Final = 2
_WARM_UP: Final = 20
_HEALTH: Final = "/xrpc/_health"
_EMPTY: Final = 1_000
_PROFILES: Final = 25
_MIN_REPLY: Final = 300
"""Mean bytes of the replies to a load: less would be lists without items."""
_POPULAR: Final = 50
_THREADS: Final = 500

Params = dict[str, Any]
Sent = Callable[[], dict[str, str]]
"""Make the headers of a request: a token is used once."""


@dataclass(frozen=True, slots=True)
class Load:
    """A kind of request; `viewers` send it with tokens."""

    name: str
    nsid: str
    params: Callable[[], Params]
    viewers: Sequence[Member] = ()


@dataclass(frozen=True, slots=True)
class Loads:
    """The loads on a stored index, with a provider that serves a feed."""

    index: Index
    stored: Stored
    viewers: Sequence[Member]
    provider_did: str
    feed: str
    terms: Sequence[str]

    def all(self) -> Iterator[Load]:
        """Yield the ten loads."""
        rng = random.Random(3)
        threads = self._threads()

        def account() -> str:
            # As in the stored records, the first accounts are the popular ones.
            return did_of(int(self.stored.accounts * rng.random() * rng.random()))

        def thread(name: str) -> Params:
            return {name: rng.choice(threads)}

        def search() -> Params:
            return {"q": rng.choice(self.terms), "sort": "top", "limit": 25}

        def profiles() -> Params:
            return {"actors": [*{account() for _ in range(_PROFILES)}]}

        feed, graph = "app.bsky.feed", "app.bsky.graph"
        yield Load("timeline", f"{feed}.getTimeline", dict, self.viewers)
        yield Load("author_feed", f"{feed}.getAuthorFeed", lambda: {"actor": account()})
        yield Load("thread", f"{feed}.getPostThread", partial(thread, "uri"))
        yield Load(
            "thread_v2",
            "app.bsky.unspecced.getPostThreadV2",
            partial(thread, "anchor"),
        )
        yield Load("profile", "app.bsky.actor.getProfile", lambda: {"actor": account()})
        yield Load("profiles", "app.bsky.actor.getProfiles", profiles)
        yield Load(
            "notifications",
            "app.bsky.notification.listNotifications",
            dict,
            self.viewers,
        )
        yield Load("own_feed", f"{feed}.getFeed", lambda: {"feed": self.feed})
        yield Load("found_posts", f"{feed}.searchPosts", search)
        yield Load("followers", f"{graph}.getFollowers", lambda: {"actor": account()})

    def _threads(self) -> list[str]:
        """Return URIs of stored posts with replies: the most popular, and any others.

        Other posts may be deleted meanwhile.
        """
        first = self.stored.first
        with self.index.pool.connection() as conn:
            rows = conn.execute(
                """
                WITH replied AS MATERIALIZED (
                    SELECT did, rkey, replies
                    FROM post_stats JOIN actor ON id = post_stats.actor
                    WHERE replies > 0 AND actor >= %s AND actor < %s
                )
                (SELECT did, rkey FROM replied ORDER BY replies DESC LIMIT %s)
                UNION ALL
                (SELECT did, rkey FROM replied ORDER BY random() LIMIT %s)
                """,
                (first, first + self.stored.accounts, _POPULAR, _THREADS),
            ).fetchall()
        return [f"at://{did}/{POST}/{tid_from_int(rkey)}" for did, rkey in rows]

    def requests(self, load: Load, count: int) -> list[tuple[str, Sent]]:
        """Return requests, each a target and its headers."""
        rng = random.Random(4)
        found: list[tuple[str, Sent]] = []
        for _ in range(count):
            sent: Sent = dict
            if load.viewers:
                viewer = rng.choice(load.viewers)
                sent = partial(_headers, viewer, self.provider_did, load.nsid)
            found.append((target(load.nsid, load.params()), sent))
        return found


def _headers(viewer: Member, aud: str, nsid: str) -> dict[str, str]:
    token = create_service_jwt(
        iss=viewer.did, aud=aud, lxm=Nsid(nsid), key=viewer.key, now=int(time.time())
    )
    return {"Authorization": f"Bearer {token}"}


def measure_views(
    url: str, loads: Loads, requests: int, progress: Progress
) -> list[Metric]:
    """Return p50 and p99 of each load with those of empty requests as floors.

    Each client sends an empty request after each other one. `per_core_s` is the number
    of requests for a second of CPU of the provider, without that of the database.
    `busy` is the number of requests with a 503, timed like the others.
    """
    timed: dict[str, list[float]] = {}
    used: dict[str, float] = {}
    busy: dict[str, int] = {}
    empty: list[float] = []
    provider = _find_provider(url)
    _send(url, [], _WARM_UP)
    before = _cpu(provider)
    _send(url, [], _EMPTY)
    empty_cpu = (_cpu(provider) - before) / _EMPTY
    kinds = [*loads.all()]
    for done, load in enumerate(kinds, 1):
        _warm_up(url, load, loads.requests(load, _WARM_UP))
        before = _cpu(provider)
        seconds, floors, gave_up = _send(url, loads.requests(load, requests), requests)
        busy[load.name] = gave_up
        cpu = _cpu(provider) - before - empty_cpu * len(floors)
        timed[load.name], used[load.name] = seconds, max(cpu, 1e-6) / len(seconds)
        empty += floors
        progress.count("methods", done, len(kinds))
    metrics = [Metric("serve", "empty_per_core_s", 1 / empty_cpu, "requests")]
    for name, seconds in timed.items():
        for share, label in ((0.5, "p50"), (0.99, "p99")):
            value, floor = quantile(seconds, share), quantile(empty, share)
            metrics.append(
                Metric("serve", f"{name}_{label}_ms", value * 1e3, "ms", floor * 1e3)
            )
        metrics.append(
            Metric("serve", f"{name}_per_core_s", 1 / used[name], "requests")
        )
        metrics.append(Metric("serve", f"{name}_busy", busy[name], "requests"))
    return metrics


def _send(
    url: str, requests: Sequence[tuple[str, Sent]], empty: int
) -> tuple[list[float], list[float], int]:
    """Send requests and `empty` ones in turn.

    Returns the seconds of each kind, and the number of requests with a 503.
    """
    busy: list[BusyError] = []

    def ask(connection: HTTPConnection, where: str, headers: Params) -> None:
        try:
            get(connection, where, headers)
        except BusyError as error:
            busy.append(error)

    def work(number: int) -> tuple[list[float], list[float]]:
        mine = requests[number::_CLIENTS]
        seconds: list[float] = []
        floors: list[float] = []
        with closing(connect(url)) as connection:
            for i in range(number, empty, _CLIENTS):
                floors.append(_time(lambda: get(connection, _HEALTH)))
                if i // _CLIENTS < len(mine):
                    where, sent = mine[i // _CLIENTS]
                    asked = partial(ask, connection, where, sent())
                    seconds.append(_time(asked))
        return seconds, floors

    with ThreadPoolExecutor(_CLIENTS) as threads:
        parts = [*threads.map(work, range(_CLIENTS))]
    seconds, floors = zip(*parts, strict=True)
    return [*chain(*seconds)], [*chain(*floors)], len(busy)


def _warm_up(url: str, load: Load, requests: Sequence[tuple[str, Sent]]) -> None:
    """Send requests. Raises LostError if their replies are nearly empty."""
    sizes: list[int] = []
    with closing(connect(url)) as connection:
        for where, sent in requests:
            with suppress(BusyError):
                sizes.append(len(get(connection, where, sent())))
    if sum(sizes) < max(1, _MIN_REPLY * len(sizes)):
        raise LostError(f"{load.nsid} replies with {sum(sizes)} bytes in all")


def _time(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _find_provider(url: str) -> psutil.Process:
    port = int(url.rpartition(":")[2])
    for process in psutil.Process().children(recursive=True):
        if not process.name().startswith("postgres"):
            for each in process.net_connections("tcp4"):
                if each.laddr.port == port and each.status == psutil.CONN_LISTEN:
                    return process
    raise RuntimeError("the provider is not a child process")


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
