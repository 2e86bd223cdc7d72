"""sendInteractions, what For You makes of it, and the statistics of feeds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from appview_world import Provider, RefusedError, serve_world
from small_world import SERVICE, START, World, did

from appview.app_bsky.feed.send_interactions import MAX_INTERACTIONS
from feeds.for_you.co_likes import CoLikes
from feeds.for_you.parameters import PUBLISHED
from storage.private.feeds.feed_feedback import (
    LESS,
    Interaction,
    load_told,
    save_interactions,
)
from storage.private.feeds.feed_hours import EVENTS
from storage.private.private_items import MOST, Kind

SEND = "app.bsky.feed.sendInteractions"
FEED = "app.bsky.feed.getFeed"
SKELETON = "app.bsky.feed.getFeedSkeleton"
FOR_YOU = f"at://{SERVICE}/app.bsky.feed.generator/for-you"
LATEST = f"at://{SERVICE}/app.bsky.feed.generator/latest"
EVENT = "app.bsky.feed.defs#"
NOW = START + timedelta(days=2)


def fill(world: World) -> dict[str, str]:
    names = ("vera", "mia", "ann", "ben", "shy")
    for name in names:
        world.write(name, "app.bsky.actor.profile", {"displayName": name}, "self")
    world.write(
        "shy",
        "app.bsky.actor.contentVisibilityDeclaration",
        {"hideFromAlgorithmicRecommendations": True},
        "self",
    )
    uris = {name: world.post(name, f"{name} writes") for name in names}
    uris["shared"] = world.post("ben", "all like it")
    for name in ("vera", "mia", "ann"):
        world.like(name, uris["shared"])
    for name in ("ann", "ben", "shy"):
        world.like("mia", uris[name])
    world.like("ann", uris["ben"])
    return uris


@pytest.fixture
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    parameters = replace(PUBLISHED, min_results=0)
    co_likes = CoLikes(parameters, clock=NOW.timestamp)
    with serve_world(url, fill, statuses={}, co_likes=co_likes) as provider:
        co_likes.refresh(provider.app.pool)
        yield provider
    databases.drop(url)


def send(provider: Provider, *sent: dict[str, Any], **body: Any) -> Any:
    body = {"interactions": [*sent], **body}
    return json.loads(provider.post(SEND, body, viewer="vera"))


def interaction(provider: Provider, name: str, event: str) -> dict[str, Any]:
    return {"item": provider.uris[name], "event": f"{EVENT}{event}"}


def page(provider: Provider, **params: Any) -> list[str]:
    feed = provider.get(FEED, feed=FOR_YOU, viewer="vera", **params)["feed"]
    return [entry["post"]["uri"] for entry in feed]


def test_feed_and_skeleton_carry_the_reason(provider: Provider) -> None:
    answer = provider.get(FEED, feed=FOR_YOU, viewer="vera")
    uris = provider.uris
    assert [e["post"]["uri"] for e in answer["feed"]] == [uris["ben"], uris["ann"]]
    [name] = {entry["reqId"] for entry in answer["feed"]}
    assert name.startswith("for-you.")
    skeleton = provider.get(SKELETON, feed=FOR_YOU, viewer="vera")
    # The same posts: the same id.
    assert skeleton["reqId"] == name
    [first] = provider.get(SKELETON, feed=FOR_YOU, viewer="vera", limit=1)["feed"]
    assert first["post"] == uris["ben"]
    assert [entry["post"] for entry in skeleton["feed"]] == [uris["ben"], uris["ann"]]
    contexts = [entry["feedContext"] for entry in skeleton["feed"]]
    assert contexts == [entry["feedContext"] for entry in answer["feed"]]
    assert contexts[0] == f"for-you co-likes paths=2 via={uris['shared']}"
    # Other feeds give no reasons.
    latest = provider.get(FEED, feed=LATEST)["feed"][0]
    assert not {"feedContext", "reqId"} & latest.keys()
    view = provider.get("app.bsky.feed.getFeedGenerator", feed=FOR_YOU)["view"]
    assert view["acceptsInteractions"] is True
    view = provider.get("app.bsky.feed.getFeedGenerator", feed=LATEST)["view"]
    assert "acceptsInteractions" not in view


def test_pages_of_one_hold_all_items(provider: Provider) -> None:
    found = provider.pages(FEED, "feed", feed=FOR_YOU, viewer="vera", limit=1)
    assert [e["post"]["uri"] for e in found] == page(provider)


def test_seen_and_see_less_change_the_next_first_page(provider: Provider) -> None:
    clock = NOW.timestamp()
    co_likes = provider.app.co_likes
    # Interactions have the time of this machine.
    co_likes._clock = lambda: max(clock, datetime.now(UTC).timestamp())
    uris = provider.uris
    assert page(provider) == [uris["ben"], uris["ann"]]
    send(provider, interaction(provider, "ben", "interactionSeen"), feed=FOR_YOU)
    assert page(provider) == [uris["ann"]]
    send(provider, interaction(provider, "ann", "requestLess"), feed=FOR_YOU)
    assert page(provider) == []
    # Other readers see what they saw.
    other = provider.get(FEED, feed=FOR_YOU, viewer="ann")["feed"]
    assert provider.uris["ann"] not in [e["post"]["uri"] for e in other]
    send(provider, interaction(provider, "ann", "requestMore"), feed=FOR_YOU)
    assert uris["ann"] not in page(provider)


def test_interactions_are_private_exported_and_deleted(provider: Provider) -> None:
    sent = interaction(provider, "ann", "requestLess") | {
        "feedContext": "why",
        "reqId": "for-you.1",
    }
    send(provider, sent, interaction(provider, "ben", "interactionSeen"))
    with psycopg.connect(provider.database) as conn:
        rows = conn.execute("SELECT account, sealed FROM private_item").fetchall()
    assert len(rows) == 2
    for account, sealed in rows:
        assert did("vera").encode() not in account + sealed
        assert b"app.bsky" not in sealed
    items = provider.get("bigworld.account.exportPrivateData", viewer="vera")["items"]
    assert {item["kind"]: item["value"] for item in items} == {
        "feedSeen": {
            "subject": provider.uris["ben"],
            "event": f"{EVENT}interactionSeen",
            "feed": FOR_YOU,
        },
        "feedRequest": {
            "subject": provider.uris["ann"],
            "event": f"{EVENT}requestLess",
            "feedContext": "why",
            "reqId": "for-you.1",
            "feed": FOR_YOU,
        },
    }
    deleted = provider.post("bigworld.account.deletePrivateData", None, viewer="vera")
    assert json.loads(deleted) == {"deleted": 2}
    account = provider.app.vault.account(did("vera"))
    with provider.app.private.read() as private:
        told = load_told(private, account)
    assert (told.seen, told.less, told.more) == ({}, {}, {})


def test_unknown_and_odd_interactions_are_ignored(provider: Provider) -> None:
    uri = provider.uris["ann"]
    assert (
        send(
            provider,
            {"item": uri, "event": "com.example.defs#shaken"},
            {"item": uri},
            {"event": f"{EVENT}requestLess"},
            {"item": f"at://{did('ann')}", "event": f"{EVENT}requestLess"},
            {"item": LATEST, "event": f"{EVENT}interactionSeen"},
            {"item": uri, "event": f"{EVENT}clickthroughItem"},
            {},
        )
        == {}
    )
    with psycopg.connect(provider.database) as conn:
        assert conn.execute("SELECT FROM private_item").fetchall() == []


def test_interactions_are_refused_by_name(provider: Provider) -> None:
    seen = interaction(provider, "ann", "interactionSeen")
    foreign = f"at://{did('ann')}/app.bsky.feed.generator/elsewhere"
    for body, viewer, error in (
        ({"interactions": [seen]}, None, "AuthMissing"),
        ({"interactions": [seen]}, "vera#bsky_fg", "InvalidToken"),
        ({"interactions": [seen], "feed": foreign}, "vera", "UnknownFeed"),
        ({"interactions": [seen], "feed": "x"}, "vera", "InvalidRequest"),
        (
            {"interactions": [seen] * (MAX_INTERACTIONS + 1)},
            "vera",
            "InvalidRequest",
        ),
    ):
        with pytest.raises(RefusedError) as refused:
            provider.post(SEND, body, viewer=viewer)
        assert refused.value.name == error, body
    assert send(provider, *[seen] * MAX_INTERACTIONS) == {}


def test_oldest_interactions_give_way(provider: Provider) -> None:
    account = provider.app.vault.account(did("vera"))
    most = MOST[Kind.FEED_REQUEST]

    def less(number: int) -> Interaction:
        uri = f"at://{did('ann')}/app.bsky.feed.post/{number}"
        return Interaction(Kind.FEED_REQUEST, uri, {"event": "x"}, LESS)

    for number in range(3):
        with provider.app.private.write() as conn:
            save_interactions(
                conn,
                account,
                [less(n) for n in range(number, most + 2, 3)],
                NOW + timedelta(minutes=number),
            )
    with provider.app.private.read() as conn:
        told = load_told(conn, account)
    assert len(told.less) == most
    gone = {n for n in range(most + 2) if less(n).uri not in told.less}
    assert len(gone) == 2
    assert all(n % 3 == 0 for n in gone)


def test_first_time_of_a_seen_post_is_kept(provider: Provider) -> None:
    account = provider.app.vault.account(did("vera"))
    uri = provider.uris["ann"]
    for kind in (Kind.FEED_SEEN, Kind.FEED_REQUEST):
        for minutes in (0, 5):
            with provider.app.private.write() as conn:
                save_interactions(
                    conn,
                    account,
                    [Interaction(kind, uri, {}, LESS if minutes else 2)],
                    START + timedelta(minutes=minutes),
                )
    with provider.app.private.read() as conn:
        told = load_told(conn, account)
    first = round(START.timestamp() * 1_000_000)
    assert [*told.seen.values()] == [first]
    assert told.more == {}
    assert told.less == {uri: first + 300_000_000}


def test_pages_and_interactions_are_counted(provider: Provider) -> None:
    provider.app.feed_counters.take()
    for viewer in ("vera", "vera", "ann", None):
        provider.get(FEED, feed=LATEST, viewer=viewer, limit=1)
    provider.get(SKELETON, feed=LATEST, viewer="mia")
    provider.get(FEED, feed=FOR_YOU)
    click = interaction(provider, "ann", "clickthroughItem")
    send(provider, click, click, feed=LATEST)
    send(provider, click | {"reqId": "for-you.12"})
    # Of no known feed: not counted.
    send(provider, click)
    with pytest.raises(RefusedError):
        provider.get(FEED, feed=f"at://{SERVICE}/app.bsky.feed.generator/none")
    counted = {one.feed: one for one in provider.app.feed_counters.take()}
    assert counted.keys() == {LATEST, FOR_YOU}
    latest = counted[LATEST]
    assert (latest.pages, latest.empty_pages, sum(latest.latency)) == (5, 0, 5)
    assert latest.readers.count() == 3
    clicks = EVENTS.index(f"{EVENT}clickthroughItem")
    assert (latest.events[clicks], sum(latest.events)) == (2, 2)
    empty = counted[FOR_YOU]
    assert (empty.pages, empty.empty_pages, empty.events[clicks]) == (1, 1, 1)
    assert empty.readers.count() == 0
    # Nothing names a reader.
    assert did("vera").encode() not in bytes(latest.readers)
