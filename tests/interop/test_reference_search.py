"""The calls that other AppViews hand over, through the reference PDS and directly.

Every page must fit its lexicon. While others write, cursors must lead to the end
without a repeated or a lost entry, and no page before the end may be empty.
Needs `tests/interop/reference/install`; see docs/explanation/reference-servers.md.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from reference_network import is_installed, until
from reference_society import FOLLOW, POST, PROFILE, Account, Network

from protocol.lexicon import Catalog
from search.topics import count_topics

pytestmark = [
    pytest.mark.reference,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not is_installed(),
        reason="the reference servers are not installed: "
        "run tests/interop/reference/install",
    ),
]

PATIENCE = 240.0
CATALOG = Catalog.load()
NAMES = ("alice", "bob", "carol", "dave", "erin", "frank")
FEED = "app.bsky.feed.generator"
LIKE = "app.bsky.feed.like"
POSTS = 8
MAX_PAGES = 400


@dataclass(frozen=True)
class Call:
    """A query, its list, and the entries that the list must hold."""

    nsid: str
    name: str
    params: dict[str, str] = field(default_factory=dict)
    needs_viewer: bool = False
    at_least: int = 1

    def __str__(self) -> str:
        return f"{self.nsid.rpartition('.')[2]} {urllib.parse.urlencode(self.params)}"


UNSPECCED = "app.bsky.unspecced"
CALLS = (
    Call("app.bsky.feed.searchPosts", "posts", {"q": "quokka"}, at_least=POSTS),
    Call("app.bsky.feed.searchPosts", "posts", {"q": "quokka", "sort": "top"}),
    Call("app.bsky.feed.searchPosts", "posts", {"q": "from:alice.test"}),
    Call("app.bsky.feed.searchPosts", "posts", {"q": "from:me quokka"}, True),
    Call(
        "app.bsky.feed.searchPostsV2",
        "posts",
        {"query": "quokka", "sort": "recent"},
        at_least=POSTS,
    ),
    Call("app.bsky.feed.searchPostsV2", "posts", {"query": "quokka"}, at_least=POSTS),
    Call("app.bsky.feed.searchPostsV2", "posts", {"hashtags": "marsupials"}),
    Call(
        "app.bsky.feed.searchPostsV2",
        "posts",
        {"query": "quokka", "following": "true"},
        True,
    ),
    Call("app.bsky.actor.searchActors", "actors", {"q": "test"}, at_least=len(NAMES)),
    Call("app.bsky.actor.searchActorsTypeahead", "actors", {"q": "ali"}),
    Call(f"{UNSPECCED}.getPopularFeedGenerators", "feeds", at_least=8),
    Call(f"{UNSPECCED}.getPopularFeedGenerators", "feeds", {"query": "feed"}),
    Call("app.bsky.actor.getSuggestions", "actors"),
    Call(f"{UNSPECCED}.getSuggestedUsers", "actors"),
    Call(f"{UNSPECCED}.getSuggestedUsersForDiscover", "actors"),
    Call(f"{UNSPECCED}.getSuggestedUsersForExplore", "actors"),
    Call(f"{UNSPECCED}.getSuggestedUsersForSeeMore", "actors"),
    Call("app.bsky.feed.getSuggestedFeeds", "feeds"),
    Call(f"{UNSPECCED}.getSuggestedFeeds", "feeds"),
    Call("app.bsky.graph.searchStarterPacks", "starterPacks", {"q": "pack"}),
    Call("app.bsky.graph.searchStarterPacksV2", "starterPacks", {"q": "pack"}),
    Call(f"{UNSPECCED}.getSuggestedStarterPacks", "starterPacks"),
    Call(f"{UNSPECCED}.getTrendingTopics", "topics"),
    Call(f"{UNSPECCED}.getTrends", "trends"),
)


@dataclass
class Route:
    """A way to the provider: a PDS with a session, or its own host."""

    url: str
    headers: dict[str, str]

    def get(self, call: Call, **more: Any) -> dict[str, Any]:
        """Return a page that fits its lexicon."""
        query = urllib.parse.urlencode(call.params | more)
        request = urllib.request.Request(
            f"{self.url}/xrpc/{call.nsid}?{query}", headers=self.headers
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            page: dict[str, Any] = json.loads(answer.read())
            if "origin" in self.headers:
                assert answer.headers["access-control-allow-origin"] == "*"
        method = CATALOG.method(call.nsid)
        assert method is not None
        method.check_output(page)
        return page

    def read_all(self, call: Call, limit: int) -> list[str]:
        """Return the entries of all pages; fail on an empty one before the end."""
        found: list[str] = []
        more: dict[str, Any] = {"limit": limit}
        for _ in range(MAX_PAGES):
            page = self.get(call, **more)
            entries = [name_of(entry) for entry in page[call.name]]
            assert len(entries) <= limit
            found += entries
            if "cursor" not in page:
                return found
            assert len(entries) == limit, f"{call}: a short page before the end"
            more["cursor"] = page["cursor"]
        raise AssertionError(f"{call} does not end")


def name_of(entry: dict[str, Any]) -> str:
    return str(entry.get("uri") or entry.get("did") or entry["topic"])


def limits(call: Call) -> tuple[int, int]:
    """Return the smallest and the largest limit."""
    method = CATALOG.method(call.nsid)
    assert method is not None
    assert method.params is not None
    schema = method.params["properties"]["limit"]
    return schema["minimum"], schema["maximum"]


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def fill(network: Network) -> None:
    """Write posts, follows, feeds, likes and starter packs."""
    for name in NAMES:
        network.move_in(name)
    alice, *others = network.accounts
    for number in range(POSTS):
        author = network.accounts[number % 3]
        record = {
            "text": f"quokka {number}",
            "tags": ["marsupials"],
            "createdAt": now(),
        }
        network.write(author, POST, record)
    for other in others[:3]:
        network.write(alice, FOLLOW, {"subject": other.did, "createdAt": now()})
        for far in others[3:]:
            network.write(other, FOLLOW, {"subject": far.did, "createdAt": now()})
    network.call(
        alice,
        "com.atproto.repo.putRecord",
        {
            "repo": alice.did,
            "collection": PROFILE,
            "rkey": "self",
            "record": {"displayName": "Alice", "createdAt": now()},
        },
    )
    _fill_feeds(network, others)


def _fill_feeds(network: Network, others: list[Account]) -> None:
    for number in range(5):
        owner = others[number % 2]
        feed = {
            "did": network.provider_did,
            "displayName": f"feed {number}",
            "createdAt": now(),
        }
        uri = network.write(owner, FEED, feed)
        for fan in others[: number % 3]:
            subject = {"uri": uri, "cid": network.cid(uri)}
            network.write(fan, LIKE, {"subject": subject, "createdAt": now()})
    held = {
        "name": "marsupial people",
        "purpose": "app.bsky.graph.defs#referencelist",
        "createdAt": now(),
    }
    uri = network.write(others[0], "app.bsky.graph.list", held)
    for other in others[1:4]:
        item = {"subject": other.did, "list": uri, "createdAt": now()}
        network.write(others[0], "app.bsky.graph.listitem", item)
    for number in range(3):
        pack = {"name": f"pack {number}", "list": uri, "createdAt": now()}
        network.write(others[0], "app.bsky.graph.starterpack", pack)


@contextmanager
def writes(network: Network) -> Iterator[Callable[[], int]]:
    """Write posts, likes and follows until the block ends; yields a counter."""
    stop = threading.Event()
    failures: list[BaseException] = []
    done = 0

    def run() -> None:
        nonlocal done
        frank = network.accounts[-1]
        try:
            while not stop.wait(1.0):
                record = {"text": f"a new quokka {done}", "createdAt": now()}
                uri = network.write(frank, POST, record)
                subject = {"uri": uri, "cid": network.cid(uri)}
                for fan in network.accounts[1:4]:
                    like = {"subject": subject, "createdAt": now()}
                    network.write(fan, LIKE, like)
                _turn_follows(network, done)
                done += 1
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield lambda: done
    finally:
        stop.set()
        thread.join()
    assert not failures, failures


def _turn_follows(network: Network, turn: int) -> None:
    """Let the last account follow another one, and no longer the one before."""
    frank = network.accounts[-1]
    for uri in [uri for uri in frank.uris if f"/{FOLLOW}/" in uri]:
        frank.uris.remove(uri)
        body = {"repo": frank.did, "collection": FOLLOW, "rkey": uri.split("/")[-1]}
        network.call(frank, "com.atproto.repo.deleteRecord", body)
    subject = network.accounts[turn % 5].did
    network.write(frank, FOLLOW, {"subject": subject, "createdAt": now()})


def log_in(network: Network, account: Account) -> Route:
    """Return the way through the PDS of an account."""
    proxy = f"{network.provider_did}#bigworld_search"
    headers = {"authorization": f"Bearer {account.token}", "atproto-proxy": proxy}
    return Route(network.pds, headers)


def test_calls_of_other_appviews_are_answered(network: Network) -> None:
    fill(network)
    with network.start("crawl"):
        until(network.equal, "equal roots", PATIENCE)
        direct = Route(network.provider, {"origin": "https://app.example.com"})
        until(lambda: _are_found(direct), "all posts in the search index", PATIENCE)
        with psycopg.connect(network.database) as conn:
            count_topics(conn, datetime.now(UTC))
        proxied = log_in(network, network.accounts[0])
        _preflight(network.provider)
        before = {
            (str(call), id(route)): {*route.read_all(call, limits(call)[1])}
            for route in (proxied, direct)
            for call in CALLS
            if route is proxied or not call.needs_viewer
        }
        with writes(network) as written:
            for route in (proxied, direct):
                for call in CALLS:
                    if route is proxied or not call.needs_viewer:
                        _check(route, call, before[str(call), id(route)])
            assert written() > 3
        _refused(network, proxied, direct)


def _are_found(route: Route) -> bool:
    found = route.read_all(CALLS[0], 100)
    packs = route.read_all(CALLS[-5], 100)
    return len(found) >= POSTS and len(packs) >= 3


def _check(route: Route, call: Call, before: set[str]) -> None:
    """Read a list in pages of every size while others write."""
    has_pages = "cursor" in CATALOG.method(call.nsid).params["properties"]  # type: ignore[union-attr,index]
    for limit in dict.fromkeys(limits(call)):
        found = route.read_all(call, limit)
        assert len(found) == len({*found}), f"{call}: repeated entries"
        if has_pages or limit == limits(call)[1]:
            assert {*found} >= before, f"{call} at {limit}: lost entries"
            assert len(found) >= call.at_least, f"{call}: {len(found)} entries"


def _preflight(provider: str) -> None:
    for call in CALLS:
        request = urllib.request.Request(
            f"{provider}/xrpc/{call.nsid}",
            method="OPTIONS",
            headers={
                "origin": "https://app.example.com",
                "access-control-request-method": "GET",
                "access-control-request-headers": "atproto-accept-labelers",
            },
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 204
            assert answer.headers["access-control-allow-origin"] == "*"
            allowed = answer.headers["access-control-allow-headers"]
            assert "atproto-accept-labelers" in allowed


def _refused(network: Network, proxied: Route, direct: Route) -> None:
    """Compare the errors that clients get on both ways."""
    call = CALLS[0]
    cursor = direct.get(call, limit=1)["cursor"]
    for route, params in (
        (proxied, {"limit": 0}),
        (proxied, {"limit": 101}),
        (direct, {"limit": 101}),
        (direct, {"cursor": "nonsense"}),
        (proxied, {"q": "x" * 2_000}),
        (direct, {"cursor": cursor, "q": "another"}),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            route.get(call, **params)
        with refused.value as error:
            assert error.code == 400
            assert {"error", "message"} <= json.loads(error.read()).keys()
