"""Feeds over HTTP beside empty requests, and what For You costs in time and memory.

The cost of matching recipes at ingest is measured on an index of its own.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil

from bench.child import open_child
from bench.fake_accounts import FakeAccounts, Member
from bench.feeds.likes import fill_likes, give_likes
from bench.feeds.matching import measure_matching
from bench.index import (
    ELSEWHERE,
    LostError,
    add_accounts,
    add_host,
    import_repos,
    open_index,
)
from bench.metric import Metric, Progress, quantile
from bench.provider import make_provider, provider_did
from bench.request import connect, get, target
from protocol.identity.service_auth import create_service_jwt
from protocol.syntax import Nsid

BENCH: Final = "feeds"

_READERS: Final = 100_000
_LIKES: Final = 10_000_000
_VIEWERS: Final = 300
_RECORDS: Final = 40
_QUICK: Final = 50
"""Divisor of all sizes in a quick run."""
_PAGE: Final = 30
_REQUESTS: Final = 400
_CLIENTS: Final = 2
_WARM_UP: Final = 20
_PATIENCE_S: Final = 300.0
_MIB: Final = 1024 * 1024

_HEALTH: Final = "/xrpc/_health"
_GET_FEED: Final = "app.bsky.feed.getFeed"
_SKELETON: Final = "app.bsky.feed.getFeedSkeleton"
_GENERATOR: Final = "app.bsky.feed.generator"

Send = Callable[[], tuple[str, dict[str, str]]]
"""Make a request: its target and its headers. A token is used once."""


def run(
    quick: bool, progress: Progress, readers: int = 0, likes: int = 0
) -> list[Metric]:
    """Measure feeds of a provider whose index has a week of likes.

    Each viewer reads For You once, which is the cost of a ranking, then its next page.
    The floors of latencies are those of as many empty requests before them.
    """
    part = _QUICK if quick else 1
    matching = measure_matching(BENCH, quick, progress)
    viewers = max(4, _VIEWERS // part)
    fakes = FakeAccounts(viewers, records=_RECORDS)
    with (
        tempfile.TemporaryDirectory(prefix="bw-home-") as folder,
        open_index() as index,
    ):
        host = add_host(index, ELSEWHERE, relay=False)
        add_accounts(index, host, ELSEWHERE, fakes.members)
        import_repos(index, fakes, progress)
        liked = fill_likes(
            index, readers or _READERS // part, likes or _LIKES // part, progress
        )
        give_likes(index, liked, [member.did for member in fakes.members])
        index.settle()
        home = Path(folder)
        did = provider_did(home)
        started = time.monotonic()
        with open_child(make_provider, home, index.url) as url:
            calls = _Calls(url, did, fakes.members)
            warm_s = calls.wait_until_warm(started)
            metrics = [
                Metric(BENCH, "for_you_warm_s", warm_s, "s"),
                *calls.measure(max(_WARM_UP, _REQUESTS // part), progress),
                Metric(BENCH, "provider_mib", _memory(url) / _MIB, "MiB"),
            ]
    return [*matching, *metrics]


class _Calls:
    """Requests of viewers to a provider."""

    def __init__(self, url: str, did: str, viewers: Sequence[Member]) -> None:
        self._url = url
        self._did = did
        self._viewers = viewers

    def feed(
        self, nsid: str, name: str, viewer: Member | None = None, cursor: str = ""
    ) -> tuple[str, dict[str, str]]:
        """Return target and headers of a page."""
        uri = f"at://{self._did}/{_GENERATOR}/{name}"
        params: dict[str, Any] = {"feed": uri, "limit": _PAGE}
        if cursor:
            params["cursor"] = cursor
        if viewer is None:
            return target(nsid, params), {}
        token = create_service_jwt(
            iss=viewer.did,
            aud=self._did,
            lxm=Nsid(nsid),
            key=viewer.key,
            now=int(time.time()),
        )
        return target(nsid, params), {"Authorization": f"Bearer {token}"}

    def wait_until_warm(self, started: float) -> float:
        """Return the seconds until a page of For You is made of likes."""
        viewer = self._viewers[0]
        with closing(connect(self._url)) as connection:
            while time.monotonic() - started < _PATIENCE_S:
                body = get(connection, *self.feed(_GET_FEED, "for-you", viewer))
                if b"co-likes" in body:
                    return time.monotonic() - started
                time.sleep(0.5)
        raise LostError("For You did not become warm")

    def measure(self, requests: int, progress: Progress) -> list[Metric]:
        """Return the latencies of each kind of request."""
        cursors: list[tuple[Member, str]] = []

        def first_page(viewer: Member) -> Send:
            return partial(self.feed, _GET_FEED, "for-you", viewer)

        loads: list[tuple[str, list[Send]]] = [
            (f"{kind}_{name}", [partial(self.feed, nsid, name)] * requests)
            for kind, nsid in (("skeleton", _SKELETON), ("feed", _GET_FEED))
            for name in ("latest", "popular")
        ]
        # The first viewer has a ranking already.
        loads.append(("for_you", [first_page(one) for one in self._viewers[1:]]))
        timed: dict[str, list[float]] = {}
        _send(self._url, loads[0][1][:_WARM_UP])
        empty = _send(self._url, [lambda: (_HEALTH, {})] * requests)[0]
        for done, (name, sent) in enumerate(loads, 1):
            timed[name], bodies = _send(self._url, sent)
            if name == "for_you":
                cursors = self._cursors(bodies)
            progress.count("feeds", done, len(loads) + 2)
        next_pages: list[Send] = [
            partial(self.feed, _GET_FEED, "for-you", viewer, cursor)
            for viewer, cursor in cursors
        ]
        timed["for_you_next"], _ = _send(self._url, next_pages)
        again: list[Send] = [
            partial(self.feed, _SKELETON, "for-you", viewer) for viewer, _ in cursors
        ]
        timed["skeleton_for_you"], _ = _send(self._url, again)
        progress.count("feeds", len(loads) + 2, len(loads) + 2)
        return [
            Metric(
                BENCH,
                f"{name}_{label}_ms",
                quantile(seconds, share) * 1e3,
                "ms",
                quantile(empty, share) * 1e3,
            )
            for name, seconds in timed.items()
            for share, label in ((0.5, "p50"), (0.99, "p99"))
        ]

    def _cursors(self, bodies: Sequence[bytes]) -> list[tuple[Member, str]]:
        """Return the viewers with their cursors; check that all pages are full."""
        found = []
        for viewer, body in zip(self._viewers[1:], bodies, strict=True):
            page = json.loads(body)
            contexts = [item.get("feedContext", "") for item in page["feed"]]
            if len(contexts) < _PAGE or not any("co-likes" in one for one in contexts):
                raise LostError(f"{viewer.did} got {len(contexts)} posts: {contexts}")
            found.append((viewer, str(page["cursor"])))
        return found


def _send(url: str, requests: Sequence[Send]) -> tuple[list[float], list[bytes]]:
    """Send requests over a few connections; return seconds, and replies in order."""
    with ThreadPoolExecutor(_CLIENTS) as threads:
        parts = list(
            threads.map(
                lambda n: _send_all(url, requests[n::_CLIENTS]), range(_CLIENTS)
            )
        )
    bodies: list[bytes] = [b""] * len(requests)
    for number, (_, replies) in enumerate(parts):
        bodies[number::_CLIENTS] = replies
    return [one for part in parts for one in part[0]], bodies


def _send_all(url: str, requests: Sequence[Send]) -> tuple[list[float], list[bytes]]:
    seconds: list[float] = []
    bodies: list[bytes] = []
    with closing(connect(url)) as connection:
        for make in requests:
            path, headers = make()
            started = time.perf_counter()
            bodies.append(get(connection, path, headers))
            seconds.append(time.perf_counter() - started)
    return seconds, bodies


def _memory(url: str) -> int:
    """Return the resident bytes of the provider, which is a child process."""
    port = int(url.rpartition(":")[2])
    for process in psutil.Process().children(recursive=True):
        if not process.name().startswith("postgres"):
            for each in process.net_connections("tcp4"):
                if each.laddr.port == port and each.status == psutil.CONN_LISTEN:
                    return int(process.memory_info().rss)
    raise LostError("the provider is not a child process")
