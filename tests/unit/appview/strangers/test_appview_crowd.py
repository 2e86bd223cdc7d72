"""More requests at once than connections: answered, or refused with a time to wait."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest
from appview_world import Provider, serve_world
from odd_world import fill, write_private_state
from small_world import PICTURE, did

CLIENTS = 200
BUSY = {429, 503}
BLOB = {"did": did("alice"), "cid": PICTURE["ref"]["$link"]}  # type: ignore[index]


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill) as provider:
        write_private_state(provider)
        yield provider
    databases.drop(url)


def ask(url: str, body: dict[str, Any] | None = None) -> tuple[int, bool]:
    """Return the status, and if a refusal names a time to wait."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"x-viewer": did("alice"), "content-type": "application/json"}
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
            return answer.status, True
    except urllib.error.HTTPError as error:
        with error:
            return error.code, "retry-after" in error.headers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("nsid", "known"),
    [
        ("app.bsky.feed.getTimeline?limit=100", {200}),
        ("app.bsky.notification.listNotifications?limit=100", {200}),
        ("app.bsky.bookmark.createBookmark", {200}),
        ("com.atproto.sync.getBlob?did={did}&cid={cid}", {400}),
    ],
)
def test_crowd_is_answered_or_told_to_wait(
    provider: Provider, nsid: str, known: set[int]
) -> None:
    url = f"{provider.url}/xrpc/{nsid.format(**BLOB)}"
    body = None
    if "create" in nsid:
        hello = provider.uris["hello"]
        body = {"uri": hello, "cid": provider.world.reference(hello)["cid"]}
    profile = f"{provider.url}/xrpc/app.bsky.actor.getProfile?actor={did('bob')}"
    with ThreadPoolExecutor(CLIENTS + 4) as crowd:
        asked = [crowd.submit(ask, url, body) for _ in range(CLIENTS)]
        others = [crowd.submit(ask, profile) for _ in range(4)]
        found = Counter(future.result() for future in asked)
        beside = Counter(future.result() for future in others)
    for (status, waits), _ in (found + beside).items():
        assert status in known | BUSY | {200}, (found, beside)
        assert waits or status not in BUSY, (found, beside)
    assert sum(n for (status, _), n in found.items() if status in known) > 0, found
    assert ask(profile) == (200, True)
    assert ask(url, body)[0] in known


def test_readers_that_stop_delay_nobody(provider: Provider) -> None:
    parts = urlsplit(provider.url)
    assert parts.hostname is not None
    assert parts.port is not None
    path = "/xrpc/app.bsky.feed.getTimeline?limit=100"
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nx-viewer: {did('alice')}\r\n\r\n"
    with ExitStack() as held:
        for _ in range(40):
            sock = held.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            sock.connect((parts.hostname, parts.port))
            sock.sendall(head.encode() * 4)
        profile = f"{provider.url}/xrpc/app.bsky.actor.getProfile?actor={did('bob')}"
        assert ask(profile) == (200, True)
        assert ask(f"{provider.url}{path}")[0] == 200


@pytest.mark.parametrize("name", ["ring", "hello"])
def test_ring_of_replies_ends_in_every_thread(provider: Provider, name: str) -> None:
    asked = {"viewer": "alice"}
    uri = provider.uris[name]
    found = provider.get("app.bsky.feed.getPostThread", uri=uri, depth=1_000, **asked)
    assert found["thread"]
    for sort in ("newest", "oldest", "top"):
        flat = provider.get(
            "app.bsky.unspecced.getPostThreadV2",
            anchor=uri,
            below=20,
            branchingFactor=100,
            sort=sort,
            **asked,
        )
        uris = [item["uri"] for item in flat["thread"]]
        assert len(uris) == len({*uris})
    other = provider.get("app.bsky.unspecced.getPostThreadOtherV2", anchor=uri, **asked)
    assert "thread" in other
