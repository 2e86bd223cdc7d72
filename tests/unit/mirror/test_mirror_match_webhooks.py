"""Delivery of matches to webhooks."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from appview_world import Provider
from multidict import CIMultiDict, CIMultiDictProxy
from small_world import did

from mirror import match_webhooks
from mirror.match_webhooks import SIGNATURE, WebhookSender
from network.errors import RateLimitedError, UnreachableError
from network.http.client import Fetcher
from network.http.policy import Policy
from network.http.responses import Fetched
from search.matches.match_log import append_matches, load_tail
from storage.private.match_webhooks import (
    MatchWebhook,
    delete_webhook,
    find_webhooks,
    put_webhook,
)
from storage.private.saved_searches import delete_search, save_search
from storage.records.addresses import find_addresses

START = datetime(2026, 12, 1, tzinfo=UTC)
URL = "https://hooks.example.com/x"
SECRET = b"a secret"


@dataclass
class Client:
    """A client that answers with the next of `replies`, the last one again."""

    replies: list[int | Exception]
    sent: list[tuple[str, bytes, str]] = field(default_factory=list)

    async def post(self, url: str, *, body: bytes, **options: Any) -> Fetched:
        self.sent.append((url, body, options["headers"][SIGNATURE]))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return Fetched(url, reply, CIMultiDictProxy(CIMultiDict()), b"")


@dataclass
class Hook:
    """A saved search with a webhook, and a clock."""

    provider: Provider
    search: int
    now: datetime = START

    @property
    def sender(self) -> WebhookSender:
        app = self.provider.app
        return WebhookSender(
            app.pool, app.private, now=lambda: self.now, draw=lambda: 1
        )

    @property
    def state(self) -> MatchWebhook:
        with self.provider.app.private.read() as conn:
            return find_webhooks(conn, [self.search])[self.search]

    def log(self, *names: str) -> int:
        with self.provider.app.pool.connection() as conn:
            uris = [self.provider.uris[name] for name in names]
            addresses = find_addresses(conn, uris)
            append_matches(conn, [(self.search, addresses[u]) for u in uris], START)
            return load_tail(conn)

    def send(self, client: Any, after: float = 5.0) -> int:
        """Run a round some seconds later."""
        self.now += timedelta(seconds=after)
        sender = self.sender
        return asyncio.run(sender.send(sender.claim(), client))


@pytest.fixture
def hook(provider: Provider) -> Iterator[Hook]:
    with provider.app.pool.connection() as conn:
        tail = load_tail(conn)
    with provider.app.private.write() as conn:
        saved = save_search(
            conn, did("bob"), "x", START, collections=[], accounts={}, listed=True
        )
        assert saved is not None
        put_webhook(conn, saved.id, URL, SECRET, tail, START)
    yield Hook(provider, saved.id)
    with provider.app.private.write() as conn:
        delete_search(conn, did("bob"), saved.id)


def uris(body: bytes) -> list[str]:
    return [match["uri"] for match in json.loads(body)["matches"]]


def test_batches_are_signed_and_sent_once(hook: Hook) -> None:
    client = Client([204])
    assert hook.send(client) == 0
    last = hook.log("hello", "dans", "picture")
    assert hook.send(client) == 2
    assert hook.send(client) == 0
    [(url, body, signature)] = client.sent
    known = hook.provider.uris
    assert (url, uris(body)) == (URL, [known["hello"], known["picture"]])
    moment, digest = (part.split("=")[1] for part in signature.split(","))
    expected = hmac.new(SECRET, f"{moment}.".encode() + body, sha256).hexdigest()
    assert digest == expected
    assert abs(int(moment) - hook.now.timestamp()) < 60
    assert hook.state.position == last


def test_batches_are_bounded(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match_webhooks, "BATCH_MATCHES", 4)
    monkeypatch.setattr(match_webhooks, "BATCH_BYTES", 600)
    client = Client([200])
    hook.log(*["hello", "picture", "reply"] * 3)
    while hook.send(client):
        pass
    known = hook.provider.uris
    names = ["hello", "picture", "reply"] * 3
    assert [u for _, body, _ in client.sent for u in uris(body)] == [
        known[name] for name in names
    ]
    assert len(client.sent) > 3


def test_failed_batch_is_sent_again_until_a_day_has_passed(hook: Hook) -> None:
    client = Client([500, UnreachableError("no route"), 301, 200])
    hook.log("hello")
    assert hook.send(client) == 0
    assert hook.state.error == "the webhook replied with 500"
    assert hook.send(client, after=1) == 0  # too early
    assert len(client.sent) == 1
    assert hook.send(client, after=5) == 0
    assert (hook.state.failures, hook.state.error) == (2, "no route")
    assert hook.send(client, after=20) == 0
    assert hook.send(client, after=40) == 1
    assert (hook.state.failures, hook.state.error) == (0, None)
    down = Client([503])
    hook.log("hello")
    for _ in range(40):
        hook.send(down, after=3_600)
    assert 24 <= len(down.sent) <= 26
    assert hook.state.stopped_at is not None
    # Saved again, it goes on where it was.
    with hook.provider.app.private.write() as conn:
        assert not put_webhook(conn, hook.search, URL, b"other", 10**6, hook.now)
    assert hook.send(client) == 1
    assert hook.state.stopped_at is None


def test_our_own_limit_is_no_failure(hook: Hook) -> None:
    client = Client([RateLimitedError("busy", 30.0), 200])
    hook.log("hello")
    assert hook.send(client) == 0
    assert hook.state.failures == 0
    assert hook.send(client, after=20) == 0
    assert hook.send(client, after=20) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://10.0.0.1/",
        "http://example.com/",
        "https://[::1]/",
    ],
)
def test_private_addresses_are_refused(hook: Hook, url: str) -> None:
    with hook.provider.app.private.write() as conn:
        delete_webhook(conn, hook.search)
        put_webhook(conn, hook.search, url, SECRET, 0, START)
    hook.log("hello")

    async def send() -> int:
        hook.now += timedelta(seconds=5)
        sender = hook.sender
        async with Fetcher(Policy()) as fetcher:
            return await sender.send(sender.claim(), fetcher)

    assert asyncio.run(send()) == 0
    assert hook.state.failures == 1


def test_secret_is_in_no_representation() -> None:
    shown = repr(MatchWebhook(1, URL, SECRET, 0))
    assert URL in shown
    assert "secret" not in shown
