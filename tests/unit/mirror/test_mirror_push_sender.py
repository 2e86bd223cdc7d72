"""Delivery of notifications to the push webhook."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import psycopg
import pytest
from appview_world import Provider, RefusedError, serve_world
from multidict import CIMultiDict, CIMultiDictProxy
from small_world import SERVICE, World, did

from mirror.match_webhooks import SIGNATURE
from mirror.push_sender import PushSender
from network.errors import UnreachableError
from network.http.responses import Fetched

NS = "app.bsky.notification."
URL = "https://push.example.com/x"
SECRET = b"a secret"


def fill(world: World) -> dict[str, str]:
    uris = {"root": world.post("vera", "root of vera")}
    for name in ("ada", "ben"):
        uris[name] = world.like(name, uris["root"])
    uris["follow"] = world.follow("ada", "vera")
    return uris


@pytest.fixture
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill, statuses={}, sends_pushes=True) as provider:
        yield provider
    databases.drop(url)


@dataclass
class Client:
    """A client that answers with the next of `replies`, the last one again."""

    replies: list[int | Exception]
    sent: list[tuple[bytes, str]] = field(default_factory=list)

    async def post(self, url: str, *, body: bytes, **options: Any) -> Fetched:
        assert url == URL
        self.sent.append((body, options["headers"][SIGNATURE]))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return Fetched(url, reply, CIMultiDictProxy(CIMultiDict()), b"")


@dataclass
class Phone:
    """A device of vera, and the clock of the sender."""

    provider: Provider
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def body(self, **changed: Any) -> dict[str, Any]:
        made = {"serviceDid": SERVICE, "token": "t", "platform": "ios", "appId": "x"}
        return made | changed

    def register(self, **changed: Any) -> None:
        self.provider.post(f"{NS}registerPush", self.body(**changed), viewer="vera")

    def touch(self, seconds: float, *names: str) -> None:
        """Let edges of these accounts arrive some seconds before now."""
        at = self.now - timedelta(seconds=seconds)
        with psycopg.connect(self.provider.database) as conn:
            for name in names:
                conn.execute(
                    "UPDATE link SET sort_at = %s WHERE actor ="
                    " (SELECT id FROM actor WHERE did = %s)",
                    (at, did(name)),
                )

    def send(self, client: Any, after: float = 31.0) -> list[Any]:
        """Run a round some seconds later; return the bodies that were taken."""
        self.now += timedelta(seconds=after)
        sender = PushSender(self.provider.app, URL, SECRET, now=lambda: self.now)
        pushes = sender.read(sender.claim())

        async def send() -> list[bool]:
            return [await sender.send(push, client) for push in pushes]

        taken = asyncio.run(send())
        return [
            json.loads(push.body) for push, ok in zip(pushes, taken, strict=True) if ok
        ]


@pytest.fixture
def phone(provider: Provider) -> Phone:
    return Phone(provider)


def test_new_notifications_are_signed_and_sent_once(phone: Phone) -> None:
    phone.register()
    phone.register()
    client = Client([204])
    # Notifications older than the registration are not pushed.
    assert phone.send(client) == []
    phone.touch(10, "ada")
    [body] = phone.send(client)
    assert body["did"] == did("vera")
    device = {"token": "t", "platform": "ios", "appId": "x", "ageRestricted": False}
    assert body["devices"] == [device]
    assert {n["reason"] for n in body["notifications"]} == {"like", "follow"}
    raw, signature = client.sent[-1]
    moment, _, digest = signature.removeprefix("t=").partition(",v1=")
    assert digest == hmac.new(SECRET, f"{moment}.".encode() + raw, sha256).hexdigest()
    assert phone.send(client) == []
    # A record that arrives late, and was made before the last push.
    phone.touch(50, "ben")
    [body] = phone.send(client)
    assert [n["uri"] for n in body["notifications"]] == [phone.provider.uris["ben"]]
    assert phone.send(client) == []


def test_failed_push_is_sent_again_and_ends_after_an_hour(phone: Phone) -> None:
    phone.register()
    phone.touch(-10, "ada")
    client = Client([500, UnreachableError("away"), 200])
    assert phone.send(client) == []
    assert phone.send(client) == []
    [body] = phone.send(client)
    assert len(body["notifications"]) == 2
    phone.touch(-10, "ben")
    assert phone.send(Client([500])) == []
    assert phone.send(client, 3_700) == []


def test_account_waits_for_its_turn(phone: Phone) -> None:
    phone.register()
    phone.touch(-10, "ada")
    assert phone.send(Client([500])) == []
    assert phone.send(Client([200]), 5) == []
    assert len(phone.send(Client([200]))) == 1


def test_settings_of_pushes_and_the_end_of_a_registration(phone: Phone) -> None:
    phone.register()
    body = {"like": {"include": "all", "list": True, "push": False}}
    phone.provider.post(f"{NS}putPreferencesV2", body, viewer="vera")
    phone.touch(-10, "ada")
    [sent] = phone.send(Client([200]))
    assert [n["reason"] for n in sent["notifications"]] == ["follow"]
    for _ in range(2):
        phone.provider.post(f"{NS}unregisterPush", phone.body(), viewer="vera")
    phone.touch(0, "ben", "ada")
    assert phone.send(Client([200])) == []


def test_unreadable_rows_do_not_stop_others(phone: Phone) -> None:
    phone.register()
    phone.register(token="lost")
    with psycopg.connect(phone.provider.database) as conn:
        conn.execute(
            "UPDATE private_item SET sealed = 'x' WHERE ctid ="
            " (SELECT max(ctid) FROM private_item WHERE kind = 11)"
        )
    phone.touch(-10, "ada")
    [body] = phone.send(Client([200]))
    assert len(body["devices"]) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"serviceDid": "did:web:other.example.com"}, "serviceDid"),
        ({"platform": "fax"}, "platform"),
        ({"token": "t" * 5_000}, "at most"),
    ],
)
def test_registration_refuses(
    phone: Phone, changed: dict[str, str], message: str
) -> None:
    with pytest.raises(RefusedError, match=message):
        phone.register(**changed)


def test_registration_needs_an_account(phone: Phone) -> None:
    for method in ("registerPush", "unregisterPush"):
        with pytest.raises(RefusedError) as refused:
            phone.provider.post(NS + method, phone.body())
        assert refused.value.name == "AuthMissing"


def test_registration_needs_a_webhook(databases: Any) -> None:
    url = databases.make("index")
    with (
        serve_world(url, fill, statuses={}) as provider,
        pytest.raises(RefusedError) as refused,
    ):
        Phone(provider).register()
    databases.drop(url)
    assert (refused.value.status, refused.value.name) == (501, "MethodNotImplemented")
